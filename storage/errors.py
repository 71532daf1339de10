"""Every error that Athanor raises on purpose.

AthanorError
├── UserError              the user's input is wrong: one line, exit status 2
│   ├── RecipeError        a recipe, or an override of it
│   ├── SourceError        a source that is not there, is empty, or cannot be read
│   ├── NotFound           an artifact, alias or step that the store does not know
│   └── Destroyed          what held documents that somebody wanted forgotten
└── BrokenError            something broke on its own: exit status 1
    ├── StepFailed         a result too suspicious to be passed on
    ├── StoreCorrupted     bytes in the store differ from their digest
    ├── StoreUnavailable   the store cannot be read or written (disk full, no permission, no answer)
    ├── LeaseLost          another host took over a build whose host it took for dead
    ├── Stopped            work was told to end (SIGTERM) and has kept what it needs to go on
    └── TrainingFailed     a training process ended with an error

A message is one line: the place, the value, the remedy.
"""

PLUMBING = "messages cannot shape an artifact's bytes"


class AthanorError(Exception):
    """Base of all errors raised on purpose; ``str`` of it is one line for a person."""

    exit_status = 1


class UserError(AthanorError):
    """What the user gave is wrong."""

    exit_status = 2


class RecipeError(UserError):
    """A recipe or an override of it does not say something that can be run."""


class SourceError(UserError):
    """A source is missing, empty or unreadable."""


class NotFound(UserError):
    """The store knows no such artifact, alias or step."""


class Destroyed(UserError):
    """What is asked for was destroyed on request."""


class BrokenError(AthanorError):
    """Something broke that the user's input did not ask for."""


class StepFailed(BrokenError):
    """A step's result is too suspicious to be passed on."""


class StoreCorrupted(BrokenError):
    """Bytes in the store differ from the digest that names them."""


class StoreUnavailable(BrokenError):
    """The store cannot be read or written now."""


class LeaseLost(BrokenError):
    """Another host has taken over what this process was building."""


class Stopped(BrokenError):
    """Work was told to end, and goes on from where it was when it is started again."""


class TrainingFailed(BrokenError):
    """A training process ended with an error."""
