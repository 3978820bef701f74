"""Tokens, rights and sealing."""
