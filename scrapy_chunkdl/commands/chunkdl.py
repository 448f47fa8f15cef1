"""The command itself: its subcommands and their options. Light to import: Scrapy loads it for every command.

Exit codes: 0, it is done; 1, it could not be done, a line on stderr says why; 2, the command line makes no sense; 130,
Ctrl-C in the middle.
"""

from __future__ import annotations

import argparse
import os
import sys

from scrapy.commands import BaseRunSpiderCommand, ScrapyCommand, ScrapyHelpFormatter
from scrapy.exceptions import UsageError
from scrapy.utils.project import inside_project

from scrapy_chunkdl.commands.console import CommandError
from scrapy_chunkdl.progress.supervised import supervised

_WORKER = """Download what waits in the list of a spider, with its settings, pipelines and feeds, and request nothing
else: neither the spider's start requests nor start URLs waiting in Redis. Any number of workers and crawls share one
list. Stop it with Ctrl-C or SIGTERM: what is not finished goes back to the list."""

_STATUS = """Tell what waits, who holds what and since when, what was given up, and how fast it goes. Reads Redis alone:
no crawl need be running."""

_FAILED = """List the items whose files were given up, with the reasons, or put them back into the list, or drop them.
An item is put back as it was: all of its files are looked at again, those that are there already are not fetched."""


_PLAN = """Tell what would be fetched for the items that wait: files and bytes, what is there already, what is refused,
and how long it takes as fast as last week. Servers are asked by HEAD alone, as politely as for downloads."""

_REPORT = """Tell what the last run of a spider on this machine did: files and bytes by host, type and size, the slowest
and largest, what was given up and what helps. The last 20 runs are kept in .scrapy, or CHUNKDL_WORK_FOLDER."""

_DASHBOARD = """Serve a page that shows live what waits, runs and failed, and can pause, slow down and retry. It is for
all spiders of the project, or one, and reads Redis alone: no crawl need be running."""


class Command(BaseRunSpiderCommand):
    """``scrapy chunkdl worker|status|failed|plan|report|dashboard``."""

    def syntax(self) -> str:
        """Return what follows the command's name."""
        return "worker|status|failed|plan|report|dashboard ..."

    def short_desc(self) -> str:
        """Return the line that ``scrapy -h`` shows."""
        return "Download what waits in Redis, and look after it"

    def add_options(self, parser: argparse.ArgumentParser) -> None:
        """Declare the subcommands. The options of all Scrapy commands come behind them."""
        subcommands = parser.add_subparsers(
            dest="subcommand", metavar="worker|status|failed|plan|report|dashboard", required=True
        )

        def declare(name: str, meaning: str, syntax: str) -> argparse.ArgumentParser:
            return subcommands.add_parser(
                name,
                help=meaning.partition(".")[0],
                description=meaning,
                prog=f"scrapy chunkdl {name}",
                usage=f"scrapy chunkdl {name} {syntax}",
                formatter_class=ScrapyHelpFormatter,
                conflict_handler="resolve",
            )

        worker = declare("worker", _WORKER, "[options] <spider>")
        worker.add_argument("spider", help="the spider whose items are downloaded")
        worker.add_argument(
            "--until-empty",
            action="store_true",
            help="end when nothing waits, is delayed, or is held by any process; else it stays until stopped",
        )
        worker.add_argument(
            "--processes",
            type=int,
            metavar="N",
            help="run N worker processes and look after them; 0: as many as there are cores",
        )
        super().add_options(worker)

        status = declare("status", _STATUS, "[options] [spider]")
        status.add_argument("spider", nargs="?", help="if omitted, all spiders of the project")
        status.add_argument("--json", action="store_true", help="print a JSON object instead")
        status.add_argument("--all", action="store_true", help="every spider, not only the ten that matter most")
        status.add_argument("--watch", action="store_true", help="again every 2 seconds, until Ctrl-C")
        ScrapyCommand.add_options(self, status)

        failed = declare("failed", _FAILED, "[options] <spider> [retry|drop]")
        failed.add_argument("spider", help="the spider whose items are meant")
        failed.add_argument("action", nargs="?", choices=("retry", "drop"), help="what to do; if omitted, list them")
        which = failed.add_mutually_exclusive_group()
        which.add_argument("--all", action="store_true", help="retry or drop every item")
        which.add_argument(
            "--match", metavar="TEXT", help="only items with this text in them or in their reasons, such as http_404"
        )
        failed.add_argument(
            "--reason", metavar="WORD", help="only items with a file given up for this, such as http_404"
        )
        failed.add_argument("--host", metavar="NAME", help="only items with a file given up of this host, or below it")
        failed.add_argument("--dead", action="store_true", help="those in :dead, which no process may claim any more")
        failed.add_argument("--json", action="store_true", help="print a JSON object per item instead")
        ScrapyCommand.add_options(self, failed)

        plan = declare("plan", _PLAN, "[options] <spider>")
        plan.add_argument("spider", help="the spider whose waiting items are meant")
        plan.add_argument("--items", type=int, default=1000, metavar="N", help="look at N items at most; default: 1000")
        plan.add_argument("--json", action="store_true", help="print a JSON object instead")
        ScrapyCommand.add_options(self, plan)

        report = declare("report", _REPORT, "[options] <spider>")
        report.add_argument("spider", help="the spider whose last run is meant")
        report.add_argument("--json", action="store_true", help="print the JSON that was kept")
        ScrapyCommand.add_options(self, report)

        dashboard = declare("dashboard", _DASHBOARD, "[options] [spider]")
        dashboard.add_argument("spider", nargs="?", help="if omitted, all spiders of the project")
        dashboard.add_argument("--host", default="127.0.0.1", help="address to serve on; others need a token")
        dashboard.add_argument("--port", type=int, default=6024, help="default: 6024; 0: any that is free")
        ScrapyCommand.add_options(self, dashboard)

    def process_options(self, args: list[str], opts: argparse.Namespace) -> None:
        """Check what can be checked before anything is read, and take over ``-s`` and its like."""
        if not inside_project():
            raise UsageError("this is no Scrapy project: run it in a folder with a scrapy.cfg", print_help=False)
        if args:
            raise UsageError(f"unrecognized arguments: {' '.join(args)}", print_help=False)
        self._processes = opts.subcommand == "worker" and opts.processes is not None and supervised() is None
        self.requires_crawler_process = opts.subcommand == "worker" and not self._processes
        if opts.subcommand == "worker":
            super().process_options(args, opts)
        else:
            assert self.settings is not None
            self.settings.set("LOG_ENABLED", False, priority="command")  # Scrapy 2.13 logs what it is at every command
            ScrapyCommand.process_options(self, args, opts)
        if opts.subcommand == "failed":
            _check_failed(opts)

    def run(self, args: list[str], opts: argparse.Namespace) -> None:
        """Run the subcommand."""
        try:
            self.exitcode = self._run(opts)
        except CommandError as error:
            print(f"scrapy chunkdl: {error}", file=sys.stderr)
            self.exitcode = 1
        except KeyboardInterrupt:
            self.exitcode = 130
        except BrokenPipeError:  # what reads the output has seen enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    def _run(self, opts: argparse.Namespace) -> int:
        assert self.settings is not None
        if self._processes:
            from scrapy_chunkdl.commands import supervisor

            return supervisor.run(self.settings, opts.spider, opts.processes)
        if opts.subcommand == "worker":
            from scrapy_chunkdl.commands import worker

            assert self.crawler_process is not None
            return worker.run(self.crawler_process, opts.spider, opts.spargs, until_empty=opts.until_empty)
        if opts.subcommand == "status":
            from scrapy_chunkdl.commands import status

            return status.run(self.settings, opts.spider, as_json=opts.json, watch=opts.watch, show_all=opts.all)
        if opts.subcommand == "plan":
            from scrapy_chunkdl.commands import plan

            return plan.run(self.settings, opts.spider, opts.items, as_json=opts.json)
        if opts.subcommand == "report":
            from scrapy_chunkdl.commands import report

            return report.run(self.settings, opts.spider, as_json=opts.json)
        if opts.subcommand == "dashboard":
            from scrapy_chunkdl.commands import dashboard

            return dashboard.run(self.settings, opts.spider, opts.host, opts.port)
        from scrapy_chunkdl.commands import failed

        return failed.run(self.settings, opts)


def _check_failed(opts: argparse.Namespace) -> None:
    if "" in (opts.match, opts.reason, opts.host):
        raise UsageError("--match needs a text, --reason and --host a name; all are --all", print_help=False)
    narrowed = opts.match or opts.reason or opts.host
    if opts.action and not (opts.all or narrowed):
        raise UsageError(f"{opts.action} needs --all, or --match TEXT, --reason or --host", print_help=False)
    if opts.all and not opts.action:
        raise UsageError("--all goes with retry or drop; without them all are listed", print_help=False)
    if opts.all and narrowed:
        raise UsageError("--all means all: leave it, or --match, --reason and --host, out", print_help=False)
