"""The command ``streamkit``.

    streamkit run orders:handler --stream orders --retry-queue URL

runs a function here as Lambda would behind an event source mapping: a process with the function in it, until SIGTERM or SIGINT,
upon which the work in hand is finished and its checkpoint saved. Progress and the function's log go to stderr. It ends with 0,
with 1 for what went wrong and 2 for what was typed wrong.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING, Any

from .errors import ConfigurationError

if TYPE_CHECKING:
    from .checkpoints.base import CheckpointStore
    from .local.runner import Progress
    from .local.settings import Settings

__all__ = ["main"]

_IN_MEMORY = ":memory:"
_SETTINGS: dict[str, type] = {
    "batch_size": int,
    "maximum_batching_window_in_seconds": float,
    "maximum_retry_attempts": int,
    "maximum_record_age_in_seconds": int,
    "parallelization_factor": int,
    "tumbling_window_in_seconds": int,
    "starting_position_timestamp": float,
    "function_timeout_in_seconds": float,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that ``arguments`` name (the process's own by default) and return its exit code."""
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except ConfigurationError as error:
        return _fail(str(error))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="streamkit", description="Work with streams and the functions that read them."
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="command")
    run = commands.add_parser("run", help="run a function on a stream, as an event source mapping of Lambda does")
    run.set_defaults(command=_run)
    run.add_argument(
        "handler", metavar="MODULE:HANDLER", type=_handler_name, help="where the function is: orders:handler"
    )
    run.add_argument("--stream", required=True, metavar="NAME", help="the Kinesis stream to read")
    run.add_argument("--name", help="whose checkpoints these are; by default the processor's name")
    run.add_argument(
        "--checkpoints",
        default="streamkit.sqlite",
        metavar="FILE",
        help=f"where positions are kept (%(default)s); {_IN_MEMORY} forgets them at the end",
    )
    run.add_argument("--retry-queue", metavar="URL", help="an SQS queue that triggers the function too")
    run.add_argument("--endpoint-url", metavar="URL", help="another Kinesis and SQS than AWS's, such as LocalStack")
    mapping = run.add_argument_group("event source mapping", "the names and defaults are AWS's")
    for name, kind in _SETTINGS.items():
        mapping.add_argument(_option(name), type=kind, metavar="N", default=argparse.SUPPRESS)
    mapping.add_argument("--bisect-batch-on-function-error", action="store_true", default=argparse.SUPPRESS)
    mapping.add_argument(
        "--starting-position", choices=("TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"), default=argparse.SUPPRESS
    )
    mapping.add_argument(
        "--report-batch-item-failures",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="the function answers what has failed, as streamkit's do",
    )
    return parser


def _run(options: argparse.Namespace) -> int:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError, ClientError
    except ImportError:
        return _fail("streamkit run needs boto3: pip install 'kinesis-streamkit[aws]'")
    from .local.container import LONGEST_TIMEOUT, Container
    from .local.queue_runner import QueueRunner
    from .local.runner import Runner

    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(message)s")
    settings = _settings(options)
    # A caller's time-out would include its wait for the others' invocations; the container keeps the function's.
    waiting = _settings(options, function_timeout_in_seconds=LONGEST_TIMEOUT)
    function = _load(options.handler)
    container = Container(function, settings.function_timeout_in_seconds, _announce)
    with ExitStack() as stack:
        if hasattr(function, "close"):
            stack.callback(function.close)
        try:
            checkpoints = stack.enter_context(closing(_checkpoints(options.checkpoints)))
            client = stack.enter_context(closing(boto3.client("kinesis", endpoint_url=options.endpoint_url)))
            runner = Runner(
                lambda: container,
                client=client,
                stream=options.stream,
                name=options.name or _name(function, options.handler),
                checkpoints=checkpoints,
                settings=waiting,
            )
            stops = [runner.stop]
            if options.retry_queue:
                sqs = stack.enter_context(closing(boto3.client("sqs", endpoint_url=options.endpoint_url)))
                retries = QueueRunner(container, options.retry_queue, sqs, function_timeout_in_seconds=LONGEST_TIMEOUT)
                thread = threading.Thread(target=retries.run, name="streamkit retry queue")
                stops.append(retries.stop)
                stack.callback(thread.join)
                stack.callback(retries.stop)
                thread.start()
            _stop_on_signals(stops)
            runner.run()
        except (BotoCoreError, ClientError) as error:
            return _fail(f"stream {options.stream}: {error}")
    for progress in runner.progress:
        _say(_summary(options.stream, progress))
    return 0


def _settings(options: argparse.Namespace, **others: Any) -> Settings:
    from .local.settings import Settings

    given = {name: getattr(options, name) for name in Settings.__struct_fields__ if hasattr(options, name)}
    if options.report_batch_item_failures:
        given["function_response_types"] = ("ReportBatchItemFailures",)
    return Settings(**given | others)


def _load(name: str) -> Callable[[Any, Any], Any]:
    """The function at ``module:attribute``, looked for in the current folder too."""
    sys.path.insert(0, "")
    module_name, _, attribute = name.partition(":")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if not f"{module_name}.".startswith(f"{error.name}."):
            raise  # The module is there; what it imports is not.
        raise ConfigurationError(f"there is no module {module_name} here or among what is installed") from None
    function: Any = getattr(module, attribute, None)
    if not callable(function):
        raise ConfigurationError(f"{module_name} has no function {attribute!r}: `{attribute} = lambda_handler(…)`")
    return function  # type: ignore[no-any-return]  # Any callable is taken for a handler, as Lambda does.


def _name(function: Any, handler: str) -> str:
    processor = getattr(function, "processor", None)
    return getattr(processor, "name", handler)


def _checkpoints(file: str) -> CheckpointStore:
    if file == _IN_MEMORY:
        from .checkpoints.memory import MemoryCheckpoints

        return MemoryCheckpoints()
    from .checkpoints.sqlite import SqliteCheckpoints

    return SqliteCheckpoints(file)


def _stop_on_signals(stops: Sequence[Callable[[], None]]) -> None:
    def stop(number: int, frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)  # The second ends the process at once.
        for one in stops:
            one()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)


def _announce(event: Any) -> None:
    """One line for each invocation, before it begins."""
    records = event["Records"]
    first, last = records[0], records[-1]
    where = first["eventSourceARN"].rpartition(":")[2].removeprefix("stream/")
    if "kinesis" in first:
        shard = first["eventID"].partition(":")[0]
        numbers = f"{first['kinesis']['sequenceNumber']} to {last['kinesis']['sequenceNumber']}"
        _say(f"{where}/{shard}: {len(records)} records, {numbers}")
    else:
        _say(f"{where}: {len(records)} messages")


def _summary(stream: str, progress: Progress) -> str:
    return (
        f"{stream}/{progress.shard_id}: stopped after {progress.records} records in {progress.batches} batches, "
        f"{progress.redelivered} of them again; checkpoint {progress.checkpoint or 'none'}"
    )


def _say(line: str) -> None:
    # In one piece: shards and queues have threads of their own.
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def _fail(message: str) -> int:
    _say(f"streamkit: {message}")
    return 1


def _handler_name(text: str) -> str:
    module, colon, attribute = text.partition(":")
    if not (module and colon and attribute):
        raise argparse.ArgumentTypeError(f"write it as MODULE:HANDLER, for instance orders:handler; got {text!r}")
    return text


def _option(setting: str) -> str:
    return "--" + setting.replace("_", "-")


if __name__ == "__main__":
    sys.exit(main())
