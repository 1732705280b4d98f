"""Says the voice note in this folder with espeak-ng. Change the words and run it again: python examples/shop/say.py"""

import subprocess
from pathlib import Path

import numpy as np

from mmagent.media.sound import wav, waveform

TEXT = "Can I still return the lamp? My order number is A, 4 8 2 1 3."

if __name__ == "__main__":
    said = subprocess.run(
        ["espeak-ng", "-v", "en-gb", "-s", "165", "--stdin", "--stdout"],
        input=TEXT.encode(),
        capture_output=True,
        check=True,
    )
    Path(__file__).with_name("voice_note.wav").write_bytes(wav(np.concatenate(list(waveform(said.stdout)))))
