"""Tools the demo model knows: schemas, requests that need them, results and the answers from results."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import values as v
from source import Source

Arguments = dict[str, str]
Result = tuple[str, str]    # what the tool returns, and the answer from it

NO_TOOL = "I have no tool for that."
NOT_SHOWN = "That is not in the part of the output I can see."


@dataclass(frozen=True)
class Tool:
    """`draw` makes arguments, `asks` are requests with them, `result` makes a result text and the answer from it."""

    name: str
    description: str
    properties: dict[str, Any]
    draw: Callable[[Source], Arguments]
    asks: tuple[str, ...]
    result: Callable[[Source, Arguments], Result]

    def schema(self) -> dict[str, Any]:
        parameters = {"type": "object", "properties": self.properties, "required": list(self.properties)}
        function = {"name": self.name, "description": self.description, "parameters": parameters}
        return {"type": "function", "function": function}


def text(description: str) -> dict[str, str]:
    return {"type": "string", "description": description}


def order_result(s: Source, a: Arguments) -> Result:
    status, date = s.choice(("shipped", "delivered", "packed", "waiting for payment", "cancelled", "returned")), s.value(v.date)
    carrier = s.choice(("DHL", "UPS", "Post", "FedEx"))
    data = {"order_id": a["order_id"], "status": status, "date": date, "carrier": carrier}
    return shuffled_json(s, data), f"Order {a['order_id']} is {status} (date: {date})."


def weather_result(s: Source, a: Arguments) -> Result:
    sky, degrees = s.choice(("sunny", "cloudy", "rainy", "windy", "foggy", "snowy")), s.randint(-9, 36)
    data = {"city": a["city"], "sky": sky, "temperature": degrees, "wind": s.randint(1, 60)}
    return shuffled_json(s, data), f"In {a['city']} it is {sky} at {degrees} degrees."


def shuffled_json(s: Source, data: dict[str, Any]) -> str:
    items = list(data.items())
    s.shuffle(items)
    return json.dumps(dict(items))


def docs_result(s: Source, a: Arguments) -> Result:
    hits = [f"{i + 1}. {s.value(v.title)} ({s.value(v.path)})" for i in range(s.randint(1, 4))]
    return "\n".join(hits), f"The best match for {a['query']} is {hits[0][3:]}."


def log_lines(s: Source, count: int) -> list[str]:
    return [f"{s.value(v.clock)} {s.choice(('INFO', 'DEBUG', 'INFO', 'WARN'))} {s.choice(v.SERVICES)}: "
            f"{s.choice(('request done', 'cache hit', 'connected to', 'retry of', 'job finished', 'loaded', 'heartbeat from'))} "
            f"{s.choice((v.slug, v.host, v.order_like))(s)}" for _ in range(count)]


def omitted(s: Source) -> str:
    total = s.randint(400, 9000)
    return f"[plimsoll: {s.randint(200, total):,} of {total + 200:,} tokens omitted; full output: ctx_{v.alphanumeric(s, 4)}]"


def log_result(s: Source, a: Arguments) -> Result:
    code, what = s.value(v.error_code), s.choice(("disk full", "connection refused", "timeout", "out of memory", "access denied", "bad checksum"))
    place = s.value(v.host)
    lines = log_lines(s, s.choice((2, 4, 8, 16)))
    if s.chance(0.3):
        lines.insert(s.randint(0, len(lines)), omitted(s))
    if s.chance(0.12):
        return "\n".join(lines + [omitted(s)]), NOT_SHOWN
    lines.insert(s.randint(0, len(lines)), f"{s.value(v.clock)} ERROR {s.choice(v.SERVICES)}: {code} {what} on {place}")
    return "\n".join(lines), f"The log shows error {code}: {what} on {place}."


CONFIG_KEYS = (("port", v.number(4, 5)), ("host", v.host), ("user", v.handle), ("timeout", v.number(2, 3)), ("region", v.slug),
               ("token", v.license_key), ("version", v.version), ("data_dir", v.folder), ("workers", v.number(1, 2)), ("owner", v.email))


def config_result(s: Source, key: str) -> Result:
    """A key = value file; the key may be in the part that was left out."""
    lines = [f"{name} = {s.value(make)}" for name, make in s.some(CONFIG_KEYS, 3, 9) if name != key]
    missing = s.chance(0.1)
    if missing or s.chance(0.2):
        lines.insert(s.randint(0, len(lines)), omitted(s))
    if missing:
        return "\n".join(lines), NOT_SHOWN
    value = s.value(dict(CONFIG_KEYS)[key])
    lines.insert(s.randint(0, len(lines)), f"{key} = {value}")
    return "\n".join(lines), f"The {key} is {value}."


def files_result(s: Source, a: Arguments) -> Result:
    names = [f"{s.value(v.slug)}.{s.choice(v.EXTENSIONS)}" for _ in range(s.randint(1, 5))]
    listed = ", ".join(names) if s.chance(0.5) else "\n".join(names)
    return listed, f"The folder {a['path']} contains {', '.join(names)}."


def query_result(s: Source, a: Arguments) -> Result:
    rows = s.value(v.number(2, 5))
    data = {"table": a["table"], "rows": int(rows.lstrip("0") or 7), "ms": s.randint(1, 90)}
    return shuffled_json(s, data), f"The table {a['table']} has {data['rows']} rows."


def ticket_result(s: Source, a: Arguments) -> Result:
    number = s.value(v.prefixed("TCK"))
    return shuffled_json(s, {"ticket": number, "priority": a["priority"], "state": "open"}), \
        f"I created ticket {number} with {a['priority']} priority."


def message_result(s: Source, a: Arguments) -> Result:
    return json.dumps({"sent": True, "to": a["to"]}), f"The message to {a['to']} was sent."


def restart_result(s: Source, a: Arguments) -> Result:
    seconds = s.randint(1, 90)
    return json.dumps({"service": a["service"], "state": "running", "seconds": seconds}), \
        f"The service {a['service']} was restarted in {seconds} seconds."


def calendar_result(s: Source, a: Arguments) -> Result:
    name, clock = s.value(v.first_name), s.value(v.clock)
    return shuffled_json(s, {"date": a["date"], "event": f"meeting with {name}", "time": clock}), \
        f"On {a['date']} you have a meeting with {name} at {clock}."


def topic(s: Source) -> str:
    return f"{s.choice(v.WORDS)} {s.choice(('backup', 'login', 'export', 'billing', 'upgrade', 'alerts', 'quota', 'setup'))}"


def ticket_title(s: Source) -> str:
    return f"{s.choice(('Broken', 'Slow', 'Missing', 'Wrong'))} {s.choice(('printer', 'login', 'report', 'export', 'invoice', 'page'))} " \
           f"in {s.choice(v.WORDS)}"


def service_name(s: Source) -> str:
    return f"{s.choice(v.SERVICES)}-{s.randint(1, 40)}" if s.chance(0.6) else s.value(v.slug)


TOOLS = (
    Tool("get_order_status", "Look up the status of an order.", {"order_id": text("The order number")},
         lambda s: {"order_id": s.value(v.prefixed("ORD"))},
         ("What is the status of order {order_id}?", "Where is my order {order_id}?", "Please check order {order_id}.",
          "Has order {order_id} been shipped?", "Look up {order_id} for me.", "Can you check the order {order_id}?",
          "order status {order_id}", "Any news about order {order_id}?"), order_result),
    Tool("get_weather", "Get the current weather of a city.", {"city": text("The name of the city")},
         lambda s: {"city": s.value(v.city)},
         ("What is the weather in {city}?", "How is the weather in {city} today?", "Is it raining in {city}?", "weather in {city}",
          "Tell me the weather in {city}.", "Do I need an umbrella in {city}?", "How warm is it in {city}?"), weather_result),
    Tool("search_docs", "Search the documentation.", {"query": text("Words to search for")}, lambda s: {"query": topic(s)},
         ("Search the docs for {query}.", "Find the documentation about {query}.", "Look for {query} in the docs.",
          "What do the docs say about {query}?", "Please search the documentation for {query}.", "docs about {query}"), docs_result),
    Tool("read_file", "Read a text file.", {"path": text("The path of the file")}, lambda s: {"path": s.value(v.path)},
         ("Which error is in {path}?", "Read {path} and tell me the error.", "What went wrong according to {path}?",
          "Please look into {path}. What is the error?", "Show me the error in {path}.", "Is there an error in {path}?"), log_result),
    Tool("list_files", "List the files of a folder.", {"path": text("The path of the folder")}, lambda s: {"path": s.value(v.folder)},
         ("List the files in {path}.", "What is in the folder {path}?", "Which files are in {path}?", "Show me the files in {path}.",
          "ls {path}", "Please list {path}."), files_result),
    Tool("run_query", "Count the rows of a database table.", {"table": text("The name of the table")}, lambda s: {"table": s.value(v.table)},
         ("How many rows are in the table {table}?", "Count the rows of {table}.", "How large is the table {table}?",
          "Please count the rows in {table}.", "Run a count on {table}.", "How many entries does {table} have?"), query_result),
    Tool("create_ticket", "Create a support ticket.",
         {"title": text("A short title"), "priority": {"type": "string", "enum": ["low", "normal", "high"]}},
         lambda s: {"title": s.value(ticket_title), "priority": s.choice(("low", "normal", "high"))},
         ('Create a ticket "{title}" with {priority} priority.', 'Open a {priority} priority ticket with the title "{title}".',
          'Please file a ticket: "{title}", priority {priority}.', 'I need a {priority} priority ticket called "{title}".',
          'Make a ticket named "{title}", {priority} priority.'), ticket_result),
    Tool("send_message", "Send a short message to a person.", {"to": text("The user name"), "text": text("The message")},
         lambda s: {"to": s.value(v.handle), "text": s.choice(("I am late", "please call me", "the build is done", "thank you", "see you soon"))},
         ('Send "{text}" to {to}.', 'Tell {to} "{text}".', 'Write {to} the message "{text}".', 'Please message {to}: "{text}".',
          'Let {to} know: "{text}".'), message_result),
    Tool("restart_service", "Restart a service.", {"service": text("The name of the service")}, lambda s: {"service": s.value(service_name)},
         ("Restart {service}.", "Please restart the service {service}.", "The service {service} hangs, restart it.",
          "Can you restart {service}?", "{service} needs a restart.", "Reboot the service {service}."), restart_result),
    Tool("get_calendar", "Get the events of a day.", {"date": text("The day, for example 12 May")}, lambda s: {"date": s.value(v.date)},
         ("What is in my calendar on {date}?", "Do I have meetings on {date}?", "Show my calendar for {date}.", "What do I have on {date}?",
          "Am I free on {date}?"), calendar_result),
)
CONFIG_ASKS = ("Which {key} is set in {path}?", "What is the {key} in {path}?", "Read {path} and tell me the {key}.",
               "Please look up the {key} in {path}.", "Tell me the {key} from {path}.", "I need the {key} from {path}.")
READ_FILE = next(t for t in TOOLS if t.name == "read_file")


@dataclass
class Use:
    """One use of a tool: the request, the call, its result and the answer."""

    tool: Tool
    request: str
    arguments: Arguments
    result: str
    answer: str

    def call(self) -> dict[str, Any]:
        return {"type": "function", "function": {"name": self.tool.name, "arguments": self.arguments}}


def draw_use(s: Source, tool: Tool) -> Use:
    """A request for a tool with everything that follows from it."""
    if tool is READ_FILE and s.chance(0.5):
        key = s.choice(CONFIG_KEYS)[0]
        arguments = {"path": s.value(v.path)}
        result, answer = config_result(s, key)
        return Use(tool, s.phrase(CONFIG_ASKS).format(key=key, **arguments), arguments, result, answer)
    arguments = tool.draw(s)
    result, answer = tool.result(s, arguments)
    return Use(tool, s.phrase(tool.asks).format(**arguments), arguments, result, answer)


# Tools that are asked for twice in one request: (the argument that differs, requests).
PAIRS = {"get_weather": ("city", ("What is the weather in {0} and in {1}?", "Compare the weather in {0} and {1}.", "weather in {0} and {1}")),
         "get_order_status": ("order_id", ("What is the status of the orders {0} and {1}?", "Check {0} and {1} for me.", "Where are {0} and {1}?")),
         "run_query": ("table", ("How many rows do {0} and {1} have?", "Count the rows of {0} and of {1}.")),
         "restart_service": ("service", ("Restart {0} and {1}.", "Please restart {0} and then {1}."))}


def draw_single(s: Source, tool: Tool) -> tuple[str, list[Use]]:
    """A request and its one use."""
    use = draw_use(s, tool)
    return use.request, [use]


def draw_pair(s: Source, tool: Tool) -> tuple[str, list[Use]]:
    """A request and its two uses of a tool of PAIRS."""
    name, phrases = PAIRS[tool.name]
    uses = [draw_use(s, tool) for _ in range(2)]
    return s.phrase(phrases).format(*(use.arguments[name] for use in uses)), uses


def calling(uses: list[Use]) -> dict[str, Any]:
    """The assistant's message with the calls."""
    return {"role": "assistant", "content": "", "tool_calls": [use.call() for use in uses]}
