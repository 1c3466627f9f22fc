"""Where definitions come from: bytes of a directory or a checkout, made into documents."""
