"""The exceptions that reach a user as a sentence."""


class UserError(Exception):
    """Bad input. The message is one sentence: what is wrong, where, and what to do.

    The command line prints it and exits with code 2, without a traceback.
    """


class NoSurface(UserError):
    """A scene has views but no mesh: nothing is half opaque, or its field is not finite."""


class Preempted(Exception):
    """The machine is being taken back (SIGTERM); everything is saved.

    The command line says how to go on and exits with code 0.
    """
