BODY = ""
def run(opts, base):
    raise SystemExit("not there yet")
