"""Facts a user can tell: how they are said, asked for, answered and written down in a summary."""

from collections.abc import Sequence
from dataclasses import dataclass

import values as v
from source import Source
from values import Make

UNKNOWN = "I don't have that in our conversation."


@dataclass(frozen=True)
class Kind:
    """One kind of fact. `{v}` stands for its value in every phrasing."""

    label: str
    make: Make
    says: tuple[str, ...]
    asks: tuple[str, ...]
    answer: str
    line: str
    changes: tuple[str, ...] = ()

    @property
    def unknown(self) -> str:
        """The answer where the fact was never told. It starts like the answer with a value, which a small model learns best."""
        return f"{self.answer.partition(' is ')[0]}? {UNKNOWN}"


@dataclass(frozen=True)
class Fact:
    """A value of a kind and how the user said it."""

    kind: Kind
    value: str
    said: str

    @property
    def answer(self) -> str:
        return self.kind.answer.format(v=self.value)

    @property
    def line(self) -> str:
        return self.kind.line.format(v=self.value)

    @property
    def pair(self) -> str:
        return f"{self.kind.label}: {self.value}"


CHANGES = ("My {l} has changed to {{v}}.", "Correction: my {l} is {{v}}.", "Actually, my {l} is {{v}}.",
           "Sorry, my {l} is now {{v}}.", "Update: my {l} is {{v}} now.", "I was wrong before, my {l} is {{v}}.",
           "Please change my {l} to {{v}}.", "My new {l} is {{v}}.")
MY_SAYS = ("My {l} is {{v}}.", "My {l} is {{v}}.", "By the way, my {l} is {{v}}.", "Please remember that my {l} is {{v}}.",
           "For later: my {l} is {{v}}.", "Just so you know, my {l} is {{v}}.", "{{v}} is my {l}.", "my {l} is {{v}}",
           "Please note my {l}: {{v}}.", "Remember this: my {l} is {{v}}.", "I have a question later, my {l} is {{v}}.",
           "Keep in mind that my {l} is {{v}}.", "Hello, my {l} is {{v}}.", "{{v}} is my {l}, please keep it.",
           "You will need my {l}. It is {{v}}.", "As my {l} I have {{v}}.", "{L}: {{v}}", "my {l}: {{v}}")
MY_ASKS = ("What is my {l}?", "What is my {l}?", "What was my {l}?", "Do you remember my {l}?", "Can you tell me my {l}?",
           "Which {l} did I give you?", "Tell me my {l}.", "Please remind me of my {l}.", "I forgot my {l}. What is it?",
           "Could you repeat my {l}?", "What {l} did I mention?", "what is my {l}", "Do you know my {l}?",
           "What did I say my {l} was?", "My {l}, please?", "What's my {l}?", "What was my {l} again?", "Give me my {l}.")
THE_SAYS = ("The {l} is {{v}}.", "The {l} is {{v}}.", "Our {l} is {{v}}.", "Please remember that the {l} is {{v}}.",
            "For the record, the {l} is {{v}}.", "Note: the {l} is {{v}}.", "{{v}} is the {l}.", "By the way, the {l} is {{v}}.",
            "the {l} is {{v}}", "Keep in mind that the {l} is {{v}}.", "We use {{v}} as the {l}.", "{L}: {{v}}",
            "Just so you know, the {l} is {{v}}.", "For later: the {l} is {{v}}.")
THE_ASKS = ("What is the {l}?", "What is the {l}?", "What was the {l}?", "Do you remember the {l}?", "Can you tell me the {l}?",
            "What is our {l}?", "Which {l} did I give you?", "Tell me the {l}.", "Please remind me of the {l}.",
            "I forgot the {l}. What is it?", "What {l} did I mention?", "what is the {l}", "Do you know the {l}?",
            "What's the {l}?", "What was the {l} again?", "Could you repeat the {l}?")
THE_CHANGES = ("The {l} has changed to {{v}}.", "Correction: the {l} is {{v}}.", "Actually, the {l} is {{v}}.",
               "Sorry, the {l} is now {{v}}.", "Update: the {l} is {{v}} now.", "The new {l} is {{v}}.",
               "I was wrong before, the {l} is {{v}}.")


def about(phrases: Sequence[str], label: str) -> tuple[str, ...]:
    """The phrasings with the label filled in and `{v}` left open."""
    return tuple(p.format(l=label, L=label[0].upper() + label[1:]) for p in phrases)


def my(label: str, make: Make) -> Kind:
    """A fact of the user: "My order number is ...". """
    return Kind(label, make, about(MY_SAYS, label), about(MY_ASKS, label), f"Your {label} is {{v}}.",
                f"The user's {label} is {{v}}.", about(CHANGES, label))


def the(label: str, make: Make) -> Kind:
    """A fact of the user's world: "The staging server is ...". """
    return Kind(label, make, about(THE_SAYS, label), about(THE_ASKS, label), f"The {label} is {{v}}.",
                f"The {label} is {{v}}.", about(THE_CHANGES, label))


def stored(label: str) -> Kind:
    """Something that lies at a path: "The deploy key is stored in ...". """
    says = ("The {l} is stored in {{v}}.", "The {l} is stored in {{v}}.", "The {l} is in {{v}}.", "We keep the {l} in {{v}}.",
            "I saved the {l} as {{v}}.", "You find the {l} at {{v}}.", "Please remember that the {l} is stored in {{v}}.",
            "The {l} lives in {{v}}.", "Note: the {l} is in {{v}}.")
    asks = ("Where is the {l} stored?", "Where is the {l}?", "Where did I put the {l}?", "Where do we keep the {l}?",
            "What is the path of the {l}?", "Do you remember where the {l} is?", "Where can I find the {l}?",
            "Tell me where the {l} is stored.", "where is the {l}")
    changes = ("The {l} has moved to {{v}}.", "Correction: the {l} is stored in {{v}}.", "Actually, the {l} is in {{v}}.",
               "The {l} is now stored in {{v}}.")
    return Kind(f"{label} path", v.path, about(says, label), about(asks, label), f"The {label} is stored in {{v}}.",
                f"The {label} is stored in {{v}}.", about(changes, label))


def relation(word: str) -> Kind:
    """A person around the user: "My sister is called ...". """
    says = ("My {l} is called {{v}}.", "My {l}'s name is {{v}}.", "My {l} is {{v}}.", "{{v}} is my {l}.",
            "I talked to my {l}, {{v}}.", "The name of my {l} is {{v}}.", "Please remember that my {l} is called {{v}}.",
            "My {l} has the name {{v}}.", "by the way, my {l} is called {{v}}")
    asks = ("What is my {l}'s name?", "What is my {l} called?", "Who is my {l}?", "What is the name of my {l}?",
            "Do you remember my {l}'s name?", "Can you tell me my {l}'s name?", "What was my {l}'s name?",
            "How is my {l} called?", "Do you know who my {l} is?")
    changes = ("Correction: my {l} is called {{v}}.", "My new {l} is {{v}}.", "Actually, my {l}'s name is {{v}}.",
               "Sorry, my {l} is called {{v}}.")
    return Kind(f"{word}'s name", v.person, about(says, word), about(asks, word), f"Your {word}'s name is {{v}}.",
                f"The user's {word} is called {{v}}.", about(changes, word))


def pet(word: str) -> Kind:
    """An animal of the user: "I have a dog called ...". """
    says = ("I have a {l} called {{v}}.", "My {l} is called {{v}}.", "My {l}'s name is {{v}}.", "We have a {l} named {{v}}.",
            "I walked home with my {l} {{v}}.", "{{v}} is my {l}.", "Our {l} has the name {{v}}.", "My {l} {{v}} says hello.")
    asks = ("What is my {l}'s name?", "What is my {l} called?", "What is the name of my {l}?", "Do you remember my {l}'s name?",
            "How is my {l} called?", "What was my {l}'s name?", "Can you tell me my {l}'s name?", "Which name does my {l} have?")
    changes = ("Correction: my {l} is called {{v}}.", "Actually, my {l}'s name is {{v}}.", "My {l} got a new name: {{v}}.",
               "We call our {l} {{v}} now.")
    return Kind(f"{word}'s name", v.first_name, about(says, word), about(asks, word), f"Your {word}'s name is {{v}}.",
                f"The user's {word} is called {{v}}.", about(changes, word))


PROJECT_PARTS = (("deadline", v.deadline), ("budget", v.amount), ("owner", v.full_name), ("port", v.number(4, 5)),
                 ("server", v.host), ("version", v.version), ("code", v.order_like), ("repository", v.slug))


def project_fact(s: Source, project: str | None = None) -> Kind:
    """A kind that belongs to one named project (a new one where none is given), so that several projects can differ."""
    part, make = s.choice(PROJECT_PARTS)
    label = f"{part} of project {project or s.value(v.project)}"
    says = ("The {l} is {{v}}.", "The {l} is {{v}}.", "Please remember that the {l} is {{v}}.", "Note: the {l} is {{v}}.",
            "{{v}} is the {l}.", "By the way, the {l} is {{v}}.", "For the record, the {l} is {{v}}.", "the {l} is {{v}}")
    asks = ("What is the {l}?", "What is the {l}?", "What was the {l}?", "Do you remember the {l}?", "Tell me the {l}.",
            "Can you tell me the {l}?", "I forgot the {l}. What is it?", "what is the {l}")
    return Kind(label, make, about(says, label), about(asks, label), f"The {label} is {{v}}.", f"The {label} is {{v}}.",
                about(THE_CHANGES, label))


NAME = Kind("name", v.full_name,
            ("My name is {v}.", "My name is {v}.", "I am {v}.", "I'm {v}.", "This is {v}.", "I am called {v}.", "You can call me {v}.",
             "Hello, my name is {v}.", "Hi, I'm {v}.", "my name is {v}", "Hi, this is {v} speaking.", "{v} is my name."),
            ("What is my name?", "What is my name?", "Who am I?", "Do you remember my name?", "What am I called?", "what's my name?",
             "Can you tell me my name?", "Do you know who I am?", "How am I called?", "Tell me my name.", "What was my name again?"),
            "Your name is {v}.", "The user's name is {v}.",
            ("Correction: my name is {v}.", "Actually, my name is {v}.", "Sorry, my name is {v}.", "My new name is {v}."))
HOME = Kind("home city", v.city,
            ("I live in {v}.", "I live in {v}.", "I am living in {v}.", "My home is in {v}.", "I am writing from {v}.", "We live in {v}.",
             "By the way, I live in {v}.", "My home city is {v}."),
            ("Where do I live?", "Where do I live?", "Which city do I live in?", "What is my home city?", "In which city do I live?",
             "Do you remember where I live?", "Can you tell me where I live?", "Tell me where I live."),
            "Your home city is {v}.", "The user lives in {v}.",
            ("I have moved to {v}.", "I live in {v} now.", "Correction: I live in {v}.", "Actually, I live in {v}."))
ORIGIN = Kind("home town", v.city,
              ("I come from {v}.", "I was born in {v}.", "I am from {v}.", "I grew up in {v}, I come from there."),
              ("Where do I come from?", "Where am I from?", "Where was I born?", "Do you remember where I come from?"),
              "Your home town is {v}.", "The user comes from {v}.", ("Correction: I come from {v}.",))
JOB = Kind("job", v.one_of(v.JOBS),
           ("I work as a {v}.", "My job is {v}.", "I am a {v}.", "I earn my money as a {v}.", "By profession I am a {v}."),
           ("What is my job?", "What do I work as?", "What do I do for a living?", "Do you remember my job?", "What is my profession?"),
           "Your job is {v}.", "The user works as a {v}.", ("I work as a {v} now.", "Correction: I work as a {v}."))
EMPLOYER = Kind("company", v.company,
                ("I work at {v}.", "I work for {v}.", "My company is called {v}.", "My employer is {v}.", "I have a job at {v}."),
                ("Where do I work?", "Which company do I work for?", "What is my company called?", "Who is my employer?",
                 "Do you remember where I work?"),
                "Your company is {v}.", "The user works at {v}.", ("I work at {v} now.", "Correction: I work at {v}."))
TRIP = Kind("destination", v.city,
            ("I am flying to {v} next week.", "I will travel to {v}.", "My next trip goes to {v}.", "We are going to {v} soon.",
             "I booked a trip to {v}.", "My destination is {v}."),
            ("Where am I flying to?", "Where will I travel?", "Where does my next trip go?", "What is my destination?",
             "Where am I going?", "Do you remember where I am travelling to?"),
            "Your destination is {v}.", "The user is travelling to {v}.",
            ("Change of plans: I will travel to {v}.", "Correction: my destination is {v}."))
ALLERGY = Kind("allergy", v.one_of(v.ALLERGENS),
               ("I am allergic to {v}.", "I have an allergy to {v}.", "Please note that I am allergic to {v}.", "I must avoid {v}, I am allergic."),
               ("What am I allergic to?", "Which allergy do I have?", "What is my allergy?", "Do you remember my allergy?"),
               "Your allergy is {v}.", "The user is allergic to {v}.", ("Correction: I am allergic to {v}.",))
LANGUAGE = Kind("language", v.one_of(v.LANGUAGES),
                ("I speak {v}.", "My first language is {v}.", "I grew up with {v} as my language.", "I speak {v} at home."),
                ("Which language do I speak?", "What language do I speak?", "What is my first language?", "What is my language?"),
                "Your language is {v}.", "The user speaks {v}.", ("Correction: I speak {v}.",))
HOBBY = Kind("instrument", v.one_of(v.INSTRUMENTS),
             ("I play the {v}.", "I am learning the {v}.", "My instrument is the {v}.", "In the evening I play the {v}."),
             ("Which instrument do I play?", "What instrument do I play?", "What is my instrument?", "What do I play in the evening?"),
             "Your instrument is the {v}.", "The user plays the {v}.", ("Now I play the {v}.",))

IDENTIFIERS = tuple(my(label, make) for label, make in (
    ("order number", v.prefixed("ORD")), ("invoice number", v.prefixed("INV")), ("ticket number", v.prefixed("TCK")),
    ("case number", v.prefixed("CASE")), ("booking reference", v.reference), ("customer number", v.number(5, 8)),
    ("account number", v.number(6, 9)), ("phone extension", v.number(3, 5)), ("phone number", v.number(7, 9)),
    ("locker code", v.number(4, 4)), ("employee number", v.number(4, 6)), ("tracking number", v.prefixed("TRX")),
    ("serial number", v.license_key), ("contract number", v.order_like), ("licence plate", v.plate),
    ("flight number", v.flight), ("seat number", v.seat), ("room number", v.room), ("user name", v.handle),
    ("e-mail address", v.email), ("purchase order", v.prefixed("PO")), ("reservation code", v.reference),
    ("job id", v.order_like), ("request id", v.order_like), ("discount code", v.license_key)))
PERSONAL = (NAME, NAME, NAME, HOME, HOME, ORIGIN, JOB, EMPLOYER, TRIP, ALLERGY, LANGUAGE, HOBBY) + tuple(
    my(label, make) for label, make in (
        ("favourite colour", v.one_of(v.COLOURS)), ("favourite food", v.one_of(v.FOODS)), ("favourite drink", v.one_of(v.DRINKS)),
        ("favourite fruit", v.one_of(v.FRUITS)), ("favourite animal", v.one_of(v.ANIMALS)), ("favourite city", v.city),
        ("favourite season", v.one_of(v.SEASONS)), ("favourite book", v.title), ("favourite film", v.title),
        ("favourite number", v.number(1, 3)), ("birthday", v.date), ("shoe size", v.number(2, 2)), ("budget", v.amount),
        ("deadline", v.deadline), ("nickname", v.first_name), ("team", v.project), ("hotel", v.title),
        ("next appointment", v.clock), ("favourite band", v.title))) + tuple(
    relation(w) for w in ("manager", "doctor", "dentist", "neighbour", "teacher", "sister", "brother", "wife", "husband", "son",
                          "daughter", "cousin", "best friend", "landlord", "lawyer")) + tuple(
    pet(w) for w in ("dog", "cat", "parrot", "rabbit", "horse", "hamster", "turtle"))
TECHNICAL = tuple(stored(w) for w in ("deploy key", "backup", "config file", "log file", "certificate", "private key", "test data",
                                      "report", "database dump", "build script")) + tuple(
    the(label, make) for label, make in (
        ("staging server", v.host), ("production server", v.host), ("database server", v.host), ("release version", v.version),
        ("API version", v.version), ("error code", v.error_code), ("release branch", v.branch), ("commit", v.commit),
        ("build number", v.number(3, 5)), ("release date", v.date), ("meeting time", v.clock), ("meeting room", v.room),
        ("incident number", v.prefixed("INC")), ("change number", v.prefixed("CHG")), ("on-call engineer", v.full_name),
        ("licence key", v.license_key), ("service port", v.number(4, 5)), ("project name", v.project), ("cluster name", v.slug),
        ("backup folder", v.folder), ("team lead", v.full_name), ("release budget", v.amount), ("database name", v.table),
        ("wifi network", v.slug), ("support contact", v.email), ("container image", v.slug)))

ACKS = ("Thanks, I have noted that.", "Thanks, I have noted that.", "Thanks, I have noted that.", "Noted.", "Okay, I will keep that in mind.",
        "Thank you, noted.")
CHANGE_ACKS = ("Thanks, I have updated that.", "Okay, updated.")


def draw_kind(s: Source) -> Kind:
    """A random kind of fact; the fourth theme are the facts of projects."""
    theme = s.choice((IDENTIFIERS, PERSONAL, TECHNICAL, None))
    return project_fact(s) if theme is None else s.choice(theme)


def draw_kinds(s: Source, count: int) -> list[Kind]:
    """Different kinds that cannot be mistaken for one another by their label."""
    kinds: dict[str, Kind] = {}
    while len(kinds) < count:
        kind = draw_kind(s)
        kinds.setdefault(kind.label, kind)
    return list(kinds.values())


def tell(s: Source, kind: Kind, changed: bool = False) -> Fact:
    """A new fact of a kind, said by the user."""
    value = s.value(kind.make)
    return Fact(kind, value, s.phrase(kind.changes if changed and kind.changes else kind.says).format(v=value))


def acknowledge(s: Source, fact: Fact, changed: bool = False) -> str:
    """One short sentence after a fact."""
    if changed:
        return s.choice(CHANGE_ACKS)
    if fact.kind is NAME and s.chance(0.8):
        return f"Nice to meet you, {fact.value.split()[0]}!"
    return s.choice(ACKS)


def ask(s: Source, kind: Kind) -> str:
    return s.phrase(kind.asks)
