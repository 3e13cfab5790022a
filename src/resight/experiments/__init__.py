"""The paper's questions, asked of any catalogue: plans of runs, the runs as artefacts, and reports.

An experiment is planned first (``plan``), carried out by one or many workers that never open the catalogue (``folder``,
``worker``), scored from the stored vectors (``scores``, ``statistics``) and written as a report (``report``). There is
one module a table or figure of the paper.
"""
