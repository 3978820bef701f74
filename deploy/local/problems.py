"""What goes wrong on a person's machine, told so that they know what to do."""


class Problem(Exception):
    """One clear line on what is wrong and what to do; shown without a traceback."""
