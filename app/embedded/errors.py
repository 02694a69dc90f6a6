"""What the embedded stack tells its user when it cannot do what was asked."""


class EmbeddedStackError(ValueError):
    """The embedded stack cannot start or go on; the message says what is wrong and what would be right."""


class DirectoryInUseError(EmbeddedStackError):
    """Another process works on the same directory."""


class PrivilegesError(EmbeddedStackError):
    """PostgreSQL refuses the user we run as, and no other identity is to be had on this machine."""


class ServiceFailedError(EmbeddedStackError):
    """A program of the stack ended, or did not become ready in time; the message ends with the tail of its log."""
