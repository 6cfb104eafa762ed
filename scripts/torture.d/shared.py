"""What is known of a server that one call after the other is put to. Values in, values out."""


class Shared:
    """What is to be expected of the shared server of one tree. A server that has died without an answer, more than once in a
    row, is started anew after a pause; until then each caller is told how it died."""

    def __init__(self):
        self.answered, self.died, self.hung, self.going = False, 0, False, False

    def answers(self):
        """If the last one hung this is another, and that one may still be on its way out."""
        self.answered, self.hung, self.going = True, False, self.going or self.hung

    def hangs(self):
        """The next call is put to another one, or to the same if this one had not come that far."""
        self.answered, self.hung = False, True

    def crashes(self):
        """Whether one before it, which hung, may still be on its way out."""
        self.died, self.answered = (0 if self.answered else self.died + 1), False
        going, self.hung, self.going = self.hung or self.going, False, False
        return going

    def is_backed_off(self):
        return self.died > 1
