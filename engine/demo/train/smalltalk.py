"""Small talk, arithmetic, repetition, stories without facts to ask for, and requests the model cannot serve."""

import values as v
from source import Source

Exchange = tuple[str, str]    # what the user says, and the answer

FALLBACKS = ("I am a very small demo model and cannot help with that.",
             "I am a very small demo model, so I don't know that.",
             "Sorry, that is too hard for a very small demo model like me.")
GREETINGS = ("Hello", "Hi", "Hello!", "Hi there", "Good morning", "Good evening", "Hey", "hello", "hi", "Hi!", "Good afternoon", "Hey there!",
             "Hello there.", "Greetings")
THANKS = ("Thanks", "Thank you", "Thank you!", "Thanks a lot.", "thanks", "Thanks, that helps.", "Great, thank you.", "Perfect, thanks!",
          "Many thanks", "Thank you very much.")
BYES = ("Bye", "Goodbye", "See you", "Good night", "bye", "See you later.", "That is all, goodbye.", "Talk to you soon.")
MOODS = ("How are you?", "How are you today?", "How do you do?", "Are you well?", "how are you", "How is it going?", "What's up?")
READY = ("Are you there?", "Can you hear me?", "Is this working?", "Test", "test", "Are you ready?", "ping", "Hello, are you there?")
YES = ("Okay.", "Ok", "All right.", "I see.", "Good.", "Fine.", "Understood.", "okay", "Sounds good.", "Alright, let us go on.")
COLOUR_ASKS = ("Name three colours.", "Tell me three colours.", "List three colours.", "Can you name three colours?", "Give me three colours.",
               "Three colours, please.")
REPEATS = ("Repeat after me: {t}", "Please repeat: {t}", "Say this back to me: {t}", "Repeat this: {t}", "Say: {t}", "Repeat the words: {t}")
SUMS = ("What is {a} + {b}?", "What is {a} plus {b}?", "{a} + {b}", "How much is {a} + {b}?", "Add {a} and {b}.", "Calculate {a} + {b}.",
        "Can you add {a} and {b}?", "{a} plus {b}?")
COUNTS = ("Count to {n}.", "Please count to {n}.", "Can you count to {n}?", "Count from 1 to {n}.", "count to {n}")
HARD = ("Write a poem about {w}.", "Tell me about {w}.", "Tell me something about {w}.", "Tell me more about {w} and {a}s.", "Who won the world cup in {y}?", "What is the capital of {c}?", "Translate {w} into French.",
        "Write a Python function that sorts {w}.", "Tell me a joke about {w}.", "Who was {n}?", "What is the meaning of {w}?",
        "How do I cook {f}?", "Solve x{d} + {d}x = 0.", "Explain quantum physics.", "What is the price of {w} today?",
        "Which film should I see?", "Write an essay on {w}.", "How tall is {n}?", "What is {d}{d} times {d}{d}?",
        "Draw a picture of a {a}.", "Who invented the {w}?", "Tell me a story about a {a}.", "What happened in {y}?",
        "Give me a recipe for {f}.", "Is {c} larger than Berlin?", "Recommend a book about {w}.", "How far is the moon?",
        "Why is the sky blue?", "Fix this code: for i in {w} print i", "What is the best {f} in {c}?", "Sing a song about {w}.",
        "How many people live in {c}?", "What is the square root of {d}{d}{d}?", "Who is the president of {c}?",
        "What should I wear today?", "How do I repair a {w}?", "Plan a trip to {c}.", "What do you think about {w}?",
        "Write a letter to {n}.", "Debug my {w} program.", "Give me some advice about {w}.", "What does {w} mean in Latin?",
        "When was {n} born?", "How old is {n}?", "Which language is spoken in {c}?", "Explain the theory of {w}.",
        "Invent a game about a {a}.", "What do {a}s eat?", "How do I learn to play {w}?")
SENTENCES = ("The bus was late again today.", "We had a long meeting about the plans for the year.", "It rained the whole afternoon.",
             "Lunch was better than usual.", "The printer on our floor is broken once more.", "I read the report twice and it is fine.",
             "Nobody could say when the lift will work again.", "The coffee machine needs a new filter.",
             "My colleague told me about the trip with the family.", "We talked for almost an hour.", "The new office is bright and quiet.",
             "Yesterday I cleaned up my desk.", "There were too many slides and too little time.", "The train was full, but I found a seat.",
             "We will decide about it after the holidays.", "The customer was friendly and patient.", "I had to wait for the parcel all morning.",
             "The weekend was sunny and calm.", "Somebody left the window open during the night.", "The test took longer than we thought.",
             "I forgot my umbrella at home.", "The list of open points is getting shorter.", "They promised to call back, but they did not.",
             "The garden looks nice at this time of the year.", "We moved the desks to the other side of the room.",
             "The call dropped twice.", "I am still looking for a good chair.", "The team did a good job in the last weeks.",
             "There was a small party in the kitchen.", "I walked to work because the weather was fine.",
             "The keyboard makes a strange sound.", "We ordered lunch for everybody.", "The slides are ready for the next round.",
             "It took {d} minutes to find a parking space.", "About {d}0 people came to the talk.", "I met {p} on the stairs.",
             "We drove through {c} on the way back.", "The lamp in the hall is {k} now.", "{p} sends kind regards.",
             "Somebody from {c} asked about the plan.", "I saw a {a} in the park.", "We had {f} for lunch.")
FILLER_OPENERS = ("Filler", "Something about", "Topic", "Here is the text of", "Next point:", "Let us talk about", "Turn", "Note")
STORY_REPLIES = ("I see.", "I see.", "I see, thank you for telling me.", "Okay.", "Thanks for the update.")


def slots(s: Source) -> dict[str, str | int]:
    return dict(w=s.choice(v.WORDS), y=s.randint(1900, 2025), c=s.value(v.city), n=s.value(v.full_name), f=s.choice(v.FOODS),
                d=s.randint(2, 9), a=s.choice(v.ANIMALS), p=s.value(v.first_name), k=s.choice(v.COLOURS), h=s.choice(v.ANIMALS))


def story(s: Source, sentences: int) -> Exchange:
    """Some sentences without anything to remember."""
    fill = slots(s)
    return " ".join(s.choice(SENTENCES).format(**fill) for _ in range(sentences)), s.choice(STORY_REPLIES)


def noise_line(s: Source, words: int) -> str:
    """Text of no particular meaning: words, a row of a table or a line of code."""
    style = s.randrange(4)
    picked = [s.choice(v.WORDS) if s.chance(0.6) else v.invented_word(s) for _ in range(words)]
    if style == 0:
        return " ".join(picked) + "."
    if style == 1:
        return f"{s.choice(FILLER_OPENERS)} {' '.join(picked[:6])} {s.randint(1, 400)}"
    if style == 2:
        return ", ".join(f"{w}={s.randint(0, 9999)}" for w in picked[:5])
    return f"{picked[0]}({', '.join(picked[1:4])})  # {' '.join(picked[4:8])}"


def noise(s: Source) -> tuple[str, str, bool]:
    """A long message without meaning, and a reply that is not to be learned or a short one that is."""
    text = s.choice(("\n", " ")).join(noise_line(s, s.randint(3, 14)) for _ in range(s.randint(1, 6)))
    if s.chance(0.5):
        return text, s.choice(STORY_REPLIES), True
    return text, " ".join(noise_line(s, s.randint(3, 12)) for _ in range(s.randint(1, 3))), False


def arithmetic(s: Source) -> Exchange:
    total = s.randint(2, s.choice((20, 99)))
    a = s.randint(1, total - 1)
    return s.phrase(SUMS).format(a=a, b=total - a), f"{a} + {total - a} = {total}."


def counting(s: Source) -> Exchange:
    n = s.randint(2, 20)
    return s.phrase(COUNTS).format(n=n), ", ".join(str(i + 1) for i in range(n)) + "."


def repeat(s: Source) -> Exchange:
    makers = (v.full_name, v.slug, v.order_like, v.title, v.path, v.city, v.invented_word, v.license_key)
    words = " ".join(s.value(s.choice(makers)) for _ in range(s.choice((1, 1, 2, 3))))
    return s.choice(REPEATS).format(t=words), words


def colours(s: Source) -> Exchange:
    return s.phrase(COLOUR_ASKS), "Red, green and blue."


def hard(s: Source) -> Exchange:
    return s.choice(HARD).format(**slots(s)), s.choice(FALLBACKS)


def pleasantry(s: Source) -> Exchange:
    phrases, answer = s.choice(((GREETINGS, "Hello! How can I help you?"), (THANKS, "You are welcome!"), (BYES, "Goodbye!"),
                                (MOODS, "I am fine, thank you. How can I help you?"), (READY, "Yes, I am here."), (YES, "Is there anything else?")))
    return s.choice(phrases), answer


def draw(s: Source) -> Exchange:
    """Any short exchange that is not about facts, tools or context windows."""
    make = s.choices((pleasantry, arithmetic, counting, repeat, colours, hard), (5, 7, 1, 4, 1, 5))[0]
    return make(s)
