"""The exceptions that reach a user as a sentence."""


class UserError(Exception):
    """Bad input. The message is one sentence: what is wrong, where, and what to do.

    The command line prints it and exits with code 2, without a traceback.
    """


class NoSurface(UserError):
    """A scene has views but no mesh: nothing is half opaque, or its field is not finite."""


class Preempted(BaseException):
    """The machine or the terminal is being taken away (SIGTERM, SIGHUP); what was due is saved.

    Like KeyboardInterrupt it is no Exception: whoever handles those does not mean this. The command
    line says how to go on and exits with code 0.
    """
