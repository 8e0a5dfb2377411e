"""The chat template of open-instruct (Wang et al., 2023; Ivison et al., 2023), which the SpIEL paper trains with (appendix C).

    <|user|>
    ...
    <|assistant|>
    ...</s>
    <|user|>

Every message stands below its role; every response ends with the end-of-text token. Contents are stripped of white space at
their ends.
"""

from __future__ import annotations

from smt_bench.data.example import Chat, Example, Posed

NAME = "tulu"
MARKER = "<|user|>"  # a model that goes on with a new question is cut there


def opened(role: str) -> str:
    """What stands before a message."""
    return f"<|{role}|>\n"


def asked(example: Example) -> str:
    """A question up to where its answer starts: `<|user|>`, instruction, a blank line and the input if any, `<|assistant|>`.

    Of a conversation what stands before its first response.
    """
    if isinstance(example, Chat):
        return pieces(example)[0][0]
    text = example.instruction.strip() + (f"\n\n{example.input.strip()}" if example.input.strip() else "")
    return f"{opened('user')}{text}\n{opened('assistant')}"


def posed(example: Example) -> str:
    """The same with what the answer is made to begin with."""
    return asked(example) + (example.lead if isinstance(example, Posed) else "")


def pieces(chat: Chat) -> list[tuple[str, str]]:
    """A conversation as (what stands before a response, the response) for each of the assistant's turns.

    The line break after a response's end-of-text token belongs to what follows: no loss is on it (open-instruct has some there).
    """
    made: list[tuple[str, str]] = []
    head = ""
    for turn in chat.turns:
        head += opened(turn.role)
        if turn.role == "assistant":
            made.append((head, turn.content.strip()))
            head = "\n"
        else:
            head += turn.content.strip() + "\n"
    return made
