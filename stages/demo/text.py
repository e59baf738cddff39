"""What the demo subject says: everyday sentences that visit every sound of the language, and one kept back."""

from __future__ import annotations

ENGLISH = (
    "Good evening, and welcome to the weather for the whole of this week.",
    "The old boats move slowly, past the mouth of the river, before the fog lifts.",
    "Why would anyone choose to wash five blue shirts, on such a wet afternoon?",
    "My father makes the best apple pie, with butter, ginger, and brown sugar.",
    "We measured the bridge twice; both figures agree.",
    "Perhaps you have heard the bells, above the village square.",
    "Three young zebras jumped over the wooden fence, and vanished.",
    "Please put the cup back on the shelf, beside the yellow jug.",
    "Oh, what a beautiful view! You can see the lighthouse from up here.",
    "Vivian thought that the music was far too loud for a small room.",
    "Most people move house in the spring, when prices are fair.",
    "A mouse ran beneath the kitchen table, and nobody noticed.",
    "The judge asked a simple question, but the answer took an hour.",
    "Fresh bread, olives, and a bowl of soup: that is all we need.",
    "She sells warm woollen gloves at the market, every other Thursday.",
    "Power comes from the wind, from the waves, and from the sun above us.",
    "Who knows whether the two o'clock train will arrive on time?",
    "Five brave firemen pulled the puppy from a frozen pond.",
    "I would rather walk home, than wait for a bus that never comes.",
    "The teacher wrote a long word on the board, and then wiped it off.",
    "Our visitors measured their pleasure in cake, coffee, and quiet.",
    "Rough weather is moving in from the north, with heavy showers by noon.",
    "Push the green button, hold it for a moment, and let it go.",
    "How many marbles could you fit, in a jar of this shape?",
    "Both of them thought the theatre would open on the fifth of March.",
    "A large brown bear was fishing, below the waterfall.",
    "Someone left a purple umbrella in the boardroom again.",
    "The ship's bell rang, once, twice, and then no more.",
    "Peter bought a map, a compass, and a very bright lamp.",
    "If you were me, which of these roads would you follow?",
    "Steam rose from the coffee, while the rain beat against the window.",
    "The vase broke because nobody had wrapped it properly.",
    "Early in the morning, the garden smells of mint and wet earth.",
    "Few of us remember how the first computers hummed and clicked.",
    "He owns a huge collection of wooden toys, mostly boats and planes.",
    "You may borrow my bicycle, but bring it back before supper.",
    "George measured the usual amount of flour, then added two eggs.",
    "The moon pulls the oceans, and so the tide comes and goes.",
    "Above all, be patient: the paint needs a whole day to dry.",
    "Which watch shows the right time, yours, or the one on the wall?",
    "Thick smoke filled the valley, so the birds flew further west.",
    "Bob and Pam made up their minds, and bought the farm.",
    "The choir will perform four short works, by modern composers.",
    "An owl called out from the beech tree, then everything was still.",
    "Could we meet at half past five, near the front of the museum?",
    "They found shells, smooth pebbles, and a rusty key on the beach.",
    "Nothing improves a winter evening, like a good book and warm socks.",
    "The engine coughs, shakes, and finally begins to purr.",
    "Her voice was low, but every word reached the back of the hall.",
    "Put the mushrooms in a hot pan, and give them room to brown.",
    "We flew over mountains, over woods, and over a wide blue bay.",
    "Those leather shoes were made by hand, in a workshop by the harbour.",
    "Maybe tomorrow the wind will change, and the ferry can leave.",
    "A good map shows not only roads, but also the shape of the land.",
    "The baker opens at six, and by seven most of the rolls are gone.",
    "Loud laughter came from the room above, where they were rehearsing.",
    "I have never met anyone who could whistle quite so well.",
    "Measure once more, please, before you saw the board in half.",
    "Children love puddles, mud, and boots that are too big for them.",
    "The final chapter explains how the mystery was solved.",
    "Far below, a white horse moved along the edge of the field.",
    "You should always ask, before you feed somebody else's dog.",
    "Bees return to the hive at dusk, heavy with yellow pollen.",
    "What would you do with an extra hour, every single day?",
    "The photograph shows a family, standing in front of a blue van.",
    "Thank you for watching, and until next time, goodbye.",
)
"""66 sentences, about four minutes with their pauses."""

ENGLISH_HELD_OUT = "Hello, my name is Robin. Everything that you see and hear from me, was made by a computer program."

GERMAN = (
    "Guten Abend, und willkommen zu unserer kleinen Sendung.",
    "Die alten Boote fahren langsam, an der Mündung des Flusses vorbei.",
    "Warum wäscht jemand fünf blaue Hemden, an einem so nassen Nachmittag?",
    "Mein Vater backt den besten Apfelkuchen, mit Butter, Ingwer und Zucker.",
    "Wir haben die Brücke zweimal vermessen; beide Werte stimmen überein.",
    "Vielleicht haben Sie die Glocken, über dem Marktplatz gehört.",
    "Drei junge Zebras sprangen über den Zaun, und waren verschwunden.",
    "Bitte stellen Sie die Tasse zurück ins Regal, neben den gelben Krug.",
    "Oh, was für eine schöne Aussicht! Von hier sieht man den Leuchtturm.",
    "Die Musik war viel zu laut, für einen so kleinen Raum.",
    "Eine Maus lief unter dem Küchentisch hindurch, und niemand bemerkte sie.",
    "Frisches Brot, Oliven, und eine Schüssel Suppe: mehr brauchen wir nicht.",
    "Wer weiß, ob der Zug um zwei Uhr pünktlich ankommt?",
    "Fünf mutige Feuerwehrleute zogen den Hund aus dem Teich.",
    "Ich gehe lieber zu Fuß, als auf einen Bus zu warten.",
    "Von Norden her zieht schlechtes Wetter auf, mit kräftigen Schauern am Mittag.",
    "Drücken Sie den grünen Knopf, halten Sie ihn kurz, und lassen Sie dann los.",
    "Ein großer brauner Bär fischte, unterhalb des Wasserfalls.",
    "Früh am Morgen riecht der Garten nach Minze und feuchter Erde.",
    "Du kannst mein Fahrrad leihen, aber bring es vor dem Abendessen zurück.",
    "Der Mond zieht an den Meeren, und so kommen und gehen Ebbe und Flut.",
    "Dicker Rauch füllte das Tal, und die Vögel flogen weiter nach Westen.",
    "Am Strand fanden sie Muscheln, glatte Steine, und einen rostigen Schlüssel.",
    "Kinder lieben Pfützen, Matsch, und Stiefel, die ihnen zu groß sind.",
    "Vielen Dank fürs Zuschauen, und bis zum nächsten Mal.",
)
"""25 sentences, about a minute and a half with their pauses."""

GERMAN_HELD_OUT = "Hallo, ich heiße Robin. Alles, was Sie von mir sehen und hören, hat ein Computer gemacht."


def sentences_for(voice: str) -> tuple[str, ...]:
    """The training sentences in the language of an espeak-ng voice (German for ``de…``, else English)."""
    return GERMAN if voice.startswith("de") else ENGLISH


def held_out_for(voice: str) -> str:
    """The sentence that no training clip says, in the language of the voice."""
    return GERMAN_HELD_OUT if voice.startswith("de") else ENGLISH_HELD_OUT
