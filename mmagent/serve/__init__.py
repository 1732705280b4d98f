"""What other programs reach: our tools over the Model Context Protocol. It stands beside the command line, above the
agent.
"""
