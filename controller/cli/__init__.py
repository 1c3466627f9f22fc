"""Verbs a person types; this package only translates."""
