"""What is known of a server that one call after the other is put to. Values in, values out."""


class Shared:
    """What is to be expected of the shared server of one tree. A server that has died without an answer, more than once in a
    row, is started anew after a pause; until then each caller is told how it died."""

    def __init__(self):
        self.answered, self.died, self.hung = False, 0, False

    def answers(self):
        self.answered, self.hung = True, False

    def hangs(self):
        """The next call is put to another one, or to the same if this one had not come that far."""
        self.answered, self.hung = False, True

    def crashes(self):
        """Whether it is another one than that which hung."""
        self.died, self.answered = (0 if self.answered else self.died + 1), False
        hung, self.hung = self.hung, False
        return hung

    def is_backed_off(self):
        return self.died > 1
