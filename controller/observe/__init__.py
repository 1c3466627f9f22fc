"""Folds over what happened: metrics, audit, health."""
