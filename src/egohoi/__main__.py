from egohoi.apps.cli import run

run()
