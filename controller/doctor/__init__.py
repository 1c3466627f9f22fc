"""What `windlass doctor` finds wrong with a database, and how it is mended.

finding.py says what can be found; executions.py, schedules.py, versions.py and files.py judge;
examine.py goes through a database, a page at a time; mend.py repairs, and judges what it repairs
again in the transaction that does it.
"""
