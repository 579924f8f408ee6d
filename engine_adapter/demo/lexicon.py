"""The words of the synthetic world: about 1,250 names and nouns that facts are drawn from.

Each list is one *kind*. A fact picks its subject and its value at random from kinds, so a model that has seen
every word still cannot know any fact of a fresh world.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


WOMEN = _words(
    """
    Ada Adela Agnes Alice Alma Amara Amelia Anika Anna Aria Astrid Aurora Beatrix Bella Berta Bianca
    Bridget Camila Carla Carmen Celia Chloe Clara Cora Dahlia Dana Daphne Daria Delia Diana Dora Edith
    Elena Elise Ella Elsa Emma Erika Esme Esther Eva Fatima Fiona Flora Freya Gemma Gloria Greta Hanna
    Hazel Heidi Helen Hilda Holly Ida Imani Ines Ingrid Irene Iris Isla Ivy Jana Jasmine Jenna Joan Judith
    Julia June Kaia Karen Kira Lara Laura Leila Lena Lila Lily Linda Lola Lucia Luna Lydia Mabel Maria
    Marta Matilda Maud Maya Mila Mina Mira Molly Nadia Naomi Nell Nina Nora Olga Olive Opal Paula Pearl
    Petra Phoebe Priya Rania Rhea Rita Rosa Ruby Ruth Sabine Salma Sara Selma Sofia Stella Susan Talia
    Tamar Tara Tessa Thea Tilda Ursula Vera Viola Wanda Willa Yara Yasmin Zara Zelda Zoe
    """
)
MEN = _words(
    """
    Abel Adam Ahmed Alan Albert Amos Andre Anton Arlo Arthur Asher Basil Ben Boris Bruno Caleb Carl Cedric
    Cyril Damon Daniel David Dean Dmitri Edgar Edwin Eli Emil Enzo Eric Ezra Felix Finn Floyd Frank Fred
    Gabriel George Gideon Gilbert Gregor Gustav Harold Harry Hassan Hector Henry Hugo Ian Ibrahim Igor
    Isaac Ivan Jack Jacob James Jasper Joel John Jonas Joseph Julian Karim Keith Kenji Kurt Lars Leo Leon
    Levi Liam Linus Logan Louis Lucas Luther Magnus Malik Marco Mark Martin Mateo Max Miles Milo Mohan
    Moses Nathan Neil Nico Niels Noah Nolan Oliver Omar Oscar Otis Otto Owen Pablo Patrick Paul Pavel
    Percy Peter Philip Quentin Rafael Ralph Ravi Remy Rex Robert Robin Roger Roland Roman Rufus Rupert
    Samir Samuel Saul Sean Silas Simon Stefan Tariq Theo Thomas Tobias Todd Tomas Tristan Uri Victor
    Vincent Walter Wesley William Yusuf Zane
    """
)
_TOWN_STEMS = _words(
    """
    Alder Ash Barn Birch Black Brook Cold Crow Dun East Fair Fern Fox Glen Green Hart Haver Kings Lang Lin
    Maple Mill Nor Oak Raven Red Stone Thorn West Win
    """
)
_TOWN_ENDS = _words("bury dale ford ham ton wick")
TOWNS = tuple(stem + end for stem in _TOWN_STEMS for end in _TOWN_ENDS)

KINDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "person": WOMEN + MEN,
        "town": TOWNS,
        "job": _words(
            """
            actor architect astronomer baker banker barber biologist blacksmith bookbinder botanist brewer
            builder butcher carpenter cartographer chemist clerk coach composer cook courier curator
            dancer dentist designer detective diver doctor driver editor electrician engineer farmer
            firefighter fisher florist forester gardener geologist glazier goldsmith guard guide hatter
            historian hunter jeweller joiner journalist judge lawyer lecturer librarian locksmith mason
            mechanic messenger midwife miller miner musician nurse optician painter pharmacist philosopher
            photographer pilot plumber poet porter potter printer ranger roofer sailor sculptor shepherd
            singer smith surgeon surveyor tailor tanner teacher translator vet waiter weaver welder writer
            """
        ),
        "food": _words(
            """
            apples apricots bacon bananas barley beans berries biscuits bread broccoli butter cabbage cake
            carrots celery cheese cherries chestnuts chocolate corn crackers cream cucumbers curry dates
            dumplings eggs figs fudge garlic ginger grapes ham honey jam kale leeks lemons lentils lettuce
            lobster mangoes melons mint muffins mushrooms mustard mussels noodles oats olives onions
            oranges pancakes pasta pastries peaches peanuts pears peas peppers pickles pies pizza plums
            popcorn porridge potatoes pretzels pudding pumpkins radishes raisins rice salmon sausages
            scones shrimp soup spinach stew strawberries toffee tomatoes trout tuna turnips waffles
            walnuts yogurt
            """
        ),
        "animal": _words(
            """
            alpaca badger beetle bulldog camel canary cat chameleon chicken cockatoo cow crab dachshund
            dog donkey duck falcon ferret frog gecko goat goldfish goose hamster hare hedgehog hen horse
            iguana kitten lamb lizard llama magpie mouse mule newt otter owl parrot peacock pig pigeon
            pony poodle puppy rabbit raccoon rat raven rooster sheep snail snake spaniel spider squirrel
            swan terrier toad tortoise turkey turtle weasel
            """
        ),
        "hobby": _words(
            """
            archery baking boxing camping canoeing carving chess climbing cricket cycling dancing diving
            drawing embroidery fencing fishing football gardening golf gymnastics hiking hockey juggling
            judo karate kayaking knitting origami painting photography poetry pottery puzzles quilting
            reading riding rowing rugby running sailing sewing singing skating skiing surfing swimming
            tennis volleyball walking weaving woodwork wrestling yoga
            """
        ),
        "instrument": _words(
            """
            accordion banjo bassoon bugle cello clarinet cornet drum fiddle flute guitar harmonica harp
            horn lute lyre mandolin oboe organ piano recorder saxophone sitar trombone trumpet tuba
            ukulele viola violin xylophone
            """
        ),
        "colour": _words(
            """
            amber beige black blue bronze brown copper crimson cyan golden green grey indigo ivory lilac
            magenta maroon navy ochre olive orange pink purple red scarlet silver tan teal turquoise
            violet white yellow
            """
        ),
        "material": _words(
            """
            bamboo bone brass brick canvas cedar clay concrete cork cotton elm felt glass iron lace
            leather linen marble nylon oak paper pewter pine plastic porcelain rubber sandstone satin silk
            slate steel stone tin velvet walnut wax wicker wood wool zinc
            """
        ),
        "object": _words(
            """
            anchor album apron atlas axe badge bag ball barrel basin basket bell belt blanket book boot
            bottle bowl box bracelet broom brush bucket button cane candle cap card cart chain chair chest
            chisel clock coat coin comb compass cord crown cup cushion diary dish doll drill envelope fan
            feather file flag flask fork frame funnel globe glove gown hammer hat helmet hook hourglass
            jar jacket jug kettle key kite knife ladder lamp lantern lens letter lock magnet map mask mat
            medal mirror mug nail necklace needle net notebook oar packet paddle pan parasol parcel pen
            pencil photo pillow pin pipe plate pot pouch purse quill racket radio rake razor ring rod rope
            rug ruler sack saddle saw scarf scissors scroll shawl shell shield shoe shovel sieve spade
            spoon stamp statue stool suitcase sword table tent thread ticket toolbox torch towel tray
            trophy trunk umbrella vase violet wallet watch whistle wrench
            """
        ),
        "room": _words(
            """
            attic balcony ballroom barn basement bathroom bedroom boathouse cabin cellar chapel classroom
            closet corridor courtyard den foyer garage garden greenhouse gym hall hallway hut kitchen
            laboratory larder laundry library loft lobby lounge nursery office orchard pantry parlour
            porch shed stable storeroom studio study terrace tower vault veranda workshop yard
            """
        ),
        "region": _words(
            """
            Arden Belmar Calder Corvin Delmar Elland Farrow Galen Harlan Illyria Jorvik Kelmar Lorne
            Marden Norland Orland Pelham Quorn Rothia Selby Tarland Umbria Valdor Wexland Yarrow Zemland
            """
        ),
        "event": _words(
            """
            auction banquet bazaar concert conference contest debate dinner election exhibition fair feast
            festival funeral gala hearing inspection interview lecture lesson market marathon match
            meeting opera parade party picnic play race recital rehearsal reunion sale seminar tournament
            trial vote wedding workshop
            """
        ),
        "day": _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday"),
        "month": _words(
            """
            January February March April May June July August September October November December
            """
        ),
        "hour": _words("one two three four five six seven eight nine ten eleven twelve"),
        "age": tuple(str(n) for n in range(20, 80)),
        "price": tuple(str(n) for n in range(2, 100)),
    }
)
"""Every kind of thing with its members."""

COUNT_WORDS = _words("none one two three four five six seven eight nine ten")


def distinct_words() -> frozenset[str]:
    """All members of all kinds."""
    return frozenset(word for members in KINDS.values() for word in members)
