"""The paths of the API, a module for each subject: ``routes(control)`` gives what it serves."""
