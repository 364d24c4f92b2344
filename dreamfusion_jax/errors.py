"""The one exception that reaches a user as a sentence."""


class UserError(Exception):
    """Bad input. The message is one sentence: what is wrong, where, and what to do.

    The command line prints it and exits with code 2, without a traceback.
    """
