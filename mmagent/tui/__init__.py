"""The terminal app: a conversation with pictures, voice and every tool call in sight. It knows agents, no options.

``app`` puts it together; ``story`` says what there is to see, ``transcript`` shows it, ``composer`` takes what is
typed, ``commands`` lists all that can be done, ``background`` is where everything runs that takes time.
"""
