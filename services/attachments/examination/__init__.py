"""The program that decodes strangers' files: run by the checker as a child process, with little around it (R-ATT-7).

It imports nothing of the project but itself.
"""
