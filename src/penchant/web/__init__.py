"""Local pages on runs, data and answers: functions of the files on disk, for this machine's browser alone."""
