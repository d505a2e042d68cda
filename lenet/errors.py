"""The exception for errors that a user can understand and fix."""


class PipelineError(Exception):
    """An error that is reported to the user without a traceback.

    The message has one line per problem: what is wrong, what was found, what is allowed and what to do. `status` is the
    exit status: 2 for a user's mistake, 1 for any other failure.
    """

    def __init__(self, message: str, status: int = 2) -> None:
        super().__init__(message)
        self.status = status
