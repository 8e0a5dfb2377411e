"""The records of data sets: a question with its answer, a conversation, a question of a benchmark, plain text."""

from __future__ import annotations

from dataclasses import dataclass

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Example:
    """One record in the LLM-Adapters layout.

    Attributes:
        instruction: the question, with its options and answer format.
        input: further context, mostly empty.
        output: the response to learn.
        answer: the gold answer alone, e.g. "answer3", "true", "42".
    """

    instruction: str
    input: str
    output: str
    answer: str


@dataclass(frozen=True)
class Turn:
    """One message of a conversation: who (`ROLES`), and what."""

    role: str
    content: str


@dataclass(frozen=True)
class Chat(Example):
    """A conversation; `chat_of` makes one.

    Attributes:
        turns: in order; the last is the assistant's.
    """

    turns: tuple[Turn, ...]


@dataclass(frozen=True)
class SourcedChat(Chat):
    """A conversation of a user's own, with what it shares with others as in `Posed`; of a scored one `answer` is the gold one."""

    source: str = ""


@dataclass(frozen=True)
class Posed(Example):
    """A question of a benchmark.

    Attributes:
        lead: what the answer begins with, given to the model; of a code task the program's beginning.
        source: what the question shares with others (a passage, a fact); empty: see `data.sources`.
    """

    lead: str = ""
    source: str = ""


@dataclass(frozen=True)
class Plain(Example):
    """A text without a question, in `output`; every token of it is predicted but the first of all."""


def chat_of(turns: tuple[Turn, ...]) -> Chat:
    """A conversation, up to the assistant's last turn, as a record.

    `instruction` is all that is not the assistant's and `output` all that is: lengths, questions asked twice and sources are then
    those of the whole.
    """
    last = max((i for i, turn in enumerate(turns) if turn.role == "assistant"), default=-1)
    kept = turns[: last + 1]
    asked, answered = (
        "\n".join(turn.content for turn in kept if (turn.role == "assistant") is mine) for mine in (False, True)
    )
    return Chat(asked, "", answered, "", kept)
