"""The one exception family of the project: it says what was wrong, where, and what to do."""


class WorldEngineError(Exception):
    """Base of every error that the project raises on purpose."""


class DataError(WorldEngineError, ValueError):
    """A file, scenario or field is not what it has to be.

    Args:
        problem: What was wrong, in a clause: ``"7 NaN values"``.
        file: The file it was read from, if any.
        scenario: The scenario id, if known.
        field: The field inside the file or scenario, dotted: ``"tracks.state"``.
        remedy: What the reader can do about it.
    """

    def __init__(self, problem, *, file=None, scenario=None, field=None, remedy=None):
        where = [f"{name} {value}" for name, value in (("file", file), ("scenario", scenario), ("field", field)) if value]
        text = f"{', '.join(where)}: {problem}" if where else problem
        super().__init__(f"{text}. {remedy}" if remedy else text)
        self.problem, self.file, self.scenario, self.field, self.remedy = problem, file, scenario, field, remedy
