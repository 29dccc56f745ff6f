"""The admin service: issues virtual keys and answers questions about spend."""
