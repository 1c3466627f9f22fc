"""From a claimed execution to performed steps."""
