"""The paths of the API, a module for each subject: ``operations(control)`` gives what it can be asked."""
