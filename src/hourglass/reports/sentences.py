"""The sentences of reports: each stands once, as a macro of a template in the folder templates, one template a topic.

Python decides what is true and passes it on; the template says it, and a fact that it was not given is an error.
"""

import re

from jinja2 import Environment, PackageLoader, StrictUndefined

from hourglass.analysis.convergence import describe_verdict
from hourglass.reports.phrases import in_brackets, listing, show_range, show_tokens


def make_environment() -> Environment:
    """Return the environment in which the templates of sentences are read: plain text, which no format escapes yet."""
    environment = Environment(
        loader=PackageLoader("hourglass.reports"), undefined=StrictUndefined, extensions=["jinja2.ext.do"]
    )
    environment.filters |= {
        "shown": format,
        "listing": listing,
        "range": show_range,
        "tokens": show_tokens,
        "verdict": describe_verdict,
    }
    environment.globals["in_brackets"] = in_brackets
    return environment


SENTENCES = make_environment()


def say(topic: str, sentence: str, **facts: object) -> str:
    """Return a sentence, or the few that belong together, on one line.

    Args:
        topic: of the template.
        sentence: name of its macro.
        facts: arguments of the macro.

    Raises:
        jinja2.UndefinedError: the macro needs a fact that it was not given.
    """
    macro = getattr(SENTENCES.get_template(f"{topic}.txt").module, sentence)
    return re.sub(r"[ \n]+", " ", str(macro(**facts))).strip()
