"""The one exception that users are meant to read."""


class UserError(Exception):
    """A sentence that names the file, key or flag and the remedy; the command lines print it without a traceback.

    ``status`` is the process exit status: 1 for work that failed, 2 for a command that could not be understood.
    """

    def __init__(self, message: str, status: int = 1):
        super().__init__(message)
        self.status = status


def memory_sentence(error: BaseException) -> str | None:
    """What to do where ``error`` says that a device or the machine has no memory left, else ``None``."""
    text = str(error)
    signs = ("out of memory", "Out of memory", "CustomDevice error, the error code is : 2")  # the last one: plug-ins
    if not isinstance(error, MemoryError) and not any(sign in text for sign in signs):
        return None
    return "out of memory: train with a smaller -bs, or separate with a smaller --segment"
