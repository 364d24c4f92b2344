"""The nouns of the shipped library: one well-looking object of the catalogs for each.

Columns: noun | object (`catalog/model`, see `catalog.Entry.uid`) | synonyms, by commas |
turn in degrees counter-clockwise where the catalog's front is not the object's.
"""

import dataclasses
import re

_FOLDERS = {"Z": "BlendSwap-CC-0", "B": "BlendSwap-CC-BY", "K": "KatorLegaz", "S": "Scopia"}

_TABLE = """
teddy bear         | Z/teddyBear            | teddy, stuffed bear, plush bear
armchair           | Z/winchesterArmchair   | club chair, leather armchair, easy chair
hamburger          | B/hamburger            | burger, cheeseburger
laptop             | B/laptop               | laptop computer, notebook computer
teapot             | S/teapot               | tea pot
motorbike          | S/yamaha-yzr-r6        | motorcycle, racing bike
birthday cake      | S/birthday_cake        | cake, chocolate cake
table              | S/children_table       | wooden table, dining table
rocking horse      | Z/caballito            | wooden horse | 90
coffee cup         | Z/caffe_final          | cup of coffee, cup, espresso cup
biplane            | Z/cartoon_biplane      | airplane, aeroplane, plane
flower box         | Z/flowerBox            | planter, window box
stand mixer        | Z/kitchenaid           | mixer, food mixer
mailbox            | Z/mofx_mailbox         | letter box, post box
chair              | S/chair4               | wooden chair, dining chair
grand piano        | Z/pianoAQueue          | piano
pool table         | Z/poolTable            | billiard table, snooker table
football table     | Z/table_football       | foosball table, table football
fan                | Z/tableFan             | table fan, electric fan
milk carton        | Z/tetrapak             | milk, carton of milk
toilet             | Z/toiletsUnit          | lavatory, water closet
parasol            | Z/umbrella             | umbrella, sunshade, beach umbrella
deck chair         | Z/deckChair            | beach chair, folding deck chair
headphones         | Z/headphones           | headset
barrel             | Z/barrel               | wooden barrel, cask
crate              | Z/crate                | wooden crate, wooden box
desk               | Z/desk                 | writing desk, office desk
electric guitar    | Z/electricGuitar       | guitar, bass guitar
potted plant       | Z/littlePlant          | plant, house plant
basketball         | Z/basketball           | basket ball
fire extinguisher  | Z/fireExtinguisher     | extinguisher
potty              | Z/potty                | baby potty
bread              | Z/bread                | loaf of bread, loaf
horse              | B/horse                | pony, brown horse
bench              | K/concrete-bench       | park bench
cactus             | Z/cactus               | potted cactus
coffee machine     | Z/coffeeBrewer         | coffee maker, espresso machine
forklift           | Z/forkLift             | fork lift, forklift truck | 90
handbag            | Z/handbag              | bag, purse
orchid             | Z/orchids              | orchids, potted orchid
refrigerator       | Z/refrigerator         | fridge
shipping container | Z/shippingContainer    | freight container, container
boots              | Z/bootie               | ankle boots, boot
cupcake            | Z/cupcake              | muffin, cup cake
hot dog            | Z/hotDog               | hotdog, sausage in a bun
stone lantern      | Z/stoneLantern         | japanese stone lantern, garden lantern
rock               | Z/rock3                | stone, boulder
stool              | Z/stool2               | bar stool, wooden stool
backpack           | B/backpack             | rucksack
bathtub            | S/islandBath           | bath, bath tub
bunk bed           | B/bunkBed              | double decker bed
toy car            | B/carrito-de-madera    | wooden car, wooden toy car
gift               | B/gift                 | attention_mask, gift box
kettle             | B/boiler               | tea kettle, whistling kettle
cooking pot        | S/pottery              | pot, casserole, saucepan
microwave          | B/microwave            | microwave oven
radio              | B/radio                | retro radio, portable radio
washing machine    | S/clothes_washing_machine | washer
wheelchair         | B/wheelchair           | wheel chair
Rubik's cube       | B/rubix2               | magic cube, rubiks cube
soccer ball        | B/ballonFoot           | football, ball
snowman            | B/bonecoDeNeve         | snow man
chessboard         | B/chessboard           | chess, chess set, chess board
chest of drawers   | B/chest                | dresser, commode
kitchen scale      | B/kitchenScale         | scale, scales
bed                | S/bed1                 | double bed
bicycle            | B/bike                 | bike, child's bike
bulldog            | B/bulldog              | bull dog
car                | K/concept-sedan-01v2   | red car, sedan
beetle             | K/VW-new-beetle        | yellow car, vw beetle
cat                | S/cat                  | kitten, sitting cat
dog                | S/dog                  | puppy, sitting dog
suitcase           | B/suitcase             | travel case, luggage
ping pong paddle   | B/tableTennisBat       | table tennis bat, table tennis racket
toy train          | B/toyTrain             | train, wooden train | 90
tulips             | B/tulip                | vase of tulips, bunch of flowers, flowers
fountain           | B/fountain             | water fountain
truck              | S/truck                | lorry
rowboat            | B/rowboat              | boat, rowing boat
trash can          | K/park-trashcan        | wastebasket, litter bin, dustbin
recycling bin      | K/recycling-bin        | plastic bin
flashlight         | K/flashlight           | torch
scooter            | K/scooter              | moped, motor scooter
office chair       | K/office-chair         | swivel chair, desk chair
fire hydrant       | K/fire-hydrant         | hydrant
bookcase           | K/full-bookcase        | bookshelf, shelf of books
wine bottle        | K/red-wine-bottle-01   | bottle of wine, bottle
jug                | S/old_jar              | pitcher, clay jug
vase               | S/jar                  | blue vase, urn
television         | S/tv                   | tv, television set, screen
computer           | S/apple_pc             | desktop computer, imac
fruit bowl         | S/bowlWithFruits       | bowl of fruit, fruits, bowl with fruits
high chair         | S/baby_high_chair      | baby high chair
camera             | S/basic_camera         | digital camera, photo camera
telephone          | S/phone                | phone, desk phone
bean bag           | S/puff                 | pouf, beanbag
sneakers           | S/sneakers             | trainers, sport shoes, shoes
fireplace          | S/fireplace1           | chimneypiece
basket             | S/shopping-basket      | wicker basket, shopping basket
stroller           | S/stroller             | baby carriage, pushchair
tricycle           | S/tricycle             | trike, child's tricycle
bonsai             | S/bonsai-tree          | bonsai tree
doll house         | S/doll-house           | dollhouse, toy house
doll               | S/doll                 | baby doll
lawn mower         | S/mower                | mower, lawnmower
rabbit             | S/rabbit               | bunny, hare
roast chicken      | S/roasted-chicken      | roasted chicken, chicken
baseball cap       | S/casquette            | cap
hat                | S/chapeau              | straw hat, panama hat
bus                | S/cityBus              | city bus
traffic cone       | S/cone                 | cone, road cone
game controller    | S/ps4-joystick         | gamepad, joystick
tent               | S/campingTent          | camping tent
palm tree          | S/coconutTree          | palm, coconut tree
pine tree          | S/pine                 | pine, fir tree, tree
hammock            | S/hammock              | hanging bed
toaster            | S/toaster              | bread toaster
dog house          | S/dog-house            | kennel, doghouse
cardboard box      | S/open-cardboard-box   | box, open box, carton
paddling pool      | S/round-swimming-pool  | inflatable pool, swimming pool
juicer             | S/squeezer             | lemon squeezer, squeezer
crib               | S/crib                 | cot, baby bed
salad bowl         | S/bowlWithSalad        | salad, bowl of salad
table lamp         | S/little_lamp1         | lamp, bedside lamp
sofa               | S/beige_sofa           | couch, settee
faucet             | S/garden-faucet        | tap, water tap
spray bottle       | K/spray-bottle         | green bottle
playground         | S/parque               | slide, playground slide
"""


@dataclasses.dataclass(frozen=True)
class Choice:
    """A noun of the library; `turn` in degrees."""

    noun: str
    uid: str
    synonyms: tuple[str, ...]
    turn: float

    @property
    def slug(self) -> str:
        """The noun as the name of a file, without an ending."""
        return re.sub(r"[^a-z0-9]+", "_", self.noun.lower().replace("'", ""))


def _choice(line: str) -> Choice:
    noun, uid, synonyms, *turn = (field.strip() for field in line.split("|"))
    folder, model = uid.split("/")
    words = tuple(word.strip() for word in synonyms.split(","))
    return Choice(noun, f"{_FOLDERS[folder]}/{model}", words, float(turn[0]) if turn else 0.0)


CHOICES = tuple(_choice(line) for line in _TABLE.strip().splitlines())
