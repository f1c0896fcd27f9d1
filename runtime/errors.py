"""The one exception that users are meant to read."""


class UserError(Exception):
    """A sentence that names the file, key or flag and the remedy; the command lines print it without a traceback.

    ``status`` is the process exit status: 1 for work that failed, 2 for a command that could not be understood.
    """

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status
