"""Draws the pictures in this folder. Change the words and run it again: python examples/shop/draw.py"""

import random
from pathlib import Path

from mmagent.train.draw import pictures

HERE = Path(__file__).parent
ITEMS = [("desk lamp", "48.90"), ("notebook", "6.50")]

receipt, _ = pictures.receipt(
    random.Random(4),
    shop="Lantern Lane",
    order_id="A-48213",
    date="2026-11-08",
    lines=ITEMS,
    total="55.40",
    label="Order",
)
receipt.save(HERE / "receipt.png")
label, _ = pictures.parcel_label(
    random.Random(2),
    carrier="Swift Parcel",
    tracking="TRK-9920-114",
    to="Maya Lind\n14 Harbour Road\n28195 Bremen",
    date="2026-11-20",
)
label.save(HERE / "label.png")
pictures.product_photo(random.Random(3), product="lamp", color="red").save(HERE / "lamp.png")
pictures.unrelated(random.Random(5)).save(HERE / "holiday.png")
