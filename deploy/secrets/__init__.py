"""Keys, passwords and certificates of the deployment: `python -m deploy.secrets make|check|certificates FOLDER`."""
