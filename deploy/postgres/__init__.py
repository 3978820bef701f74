"""The databases: roles, who may connect from where, backup and restore."""
