"""In Flower's ClientApp: a message is put before the agent's own process, which answers."""

import os
import time
from pathlib import Path

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from llmagentos.engines.flower.server_relay import boxed, unboxed
from llmagentos.engines.flower.tray import FOLDER, Tray, short_name

POLL_S = 0.1

app = ClientApp()


@app.query()
def answer(message: Message, context: Context) -> Message:  # noqa: ARG001
    """The reply that the agent's process makes, however long that takes."""
    folder = Path(os.environ[FOLDER])
    tasks, answers = Tray(folder / "tasks"), Tray(folder / "answers")
    name = short_name(message.metadata.message_id)  # what comes from elsewhere names no file
    tasks.put(name, unboxed(message.content))
    while name not in answers.names():
        time.sleep(POLL_S)
    body = answers.read(name)
    answers.drop(name)
    return Message(boxed(body), reply_to=message)
