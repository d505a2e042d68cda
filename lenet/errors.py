"""The one exception that a stage turns into one line and an exit status."""


class PipelineError(Exception):
    """Something that the user can understand and act on.

    The message is one line that says what is wrong, what was found, what is allowed and what to do.
    `status` is the exit status of the stage: 2 for a mistake of the user, 1 for a failure that they did not cause.
    """

    def __init__(self, message: str, status: int = 2):
        super().__init__(message)
        self.status = status
