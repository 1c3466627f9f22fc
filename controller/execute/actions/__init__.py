"""The built-in actions, one module each; a module is imported when its action is first called."""
