"""Which nouns of the library may be tuned on, and which are held out for evaluation."""

# The README's eight, and others that differ in shape and color.
TUNING = (
    "teddy bear, armchair, hamburger, laptop, teapot, motorbike, birthday cake, table, barrel, "
    "cactus, grand piano, snowman, fire hydrant, horse, vase, bus"
).split(", ")

# Drawn from the others by numpy.random.default_rng(0), in the order of the library.
HELD_OUT = (
    "stand mixer, mailbox, football table, fan, milk carton, toilet, deck chair, desk, "
    "basketball, fire extinguisher, bread, bench, forklift, orchid, rock, backpack, bathtub, "
    "toy car, radio, chest of drawers, rowboat, trash can, recycling bin, flashlight, "
    "wine bottle, computer, sneakers, fireplace, bonsai, doll house, doll, rabbit, baseball cap, "
    "hat, traffic cone, tent, palm tree, crib, salad bowl, faucet"
).split(", ")
