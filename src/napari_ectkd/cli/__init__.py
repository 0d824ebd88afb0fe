"""The command line: parse, drain the events, return an exit code.

`app` holds the commands together and turns errors into exit codes, `commands` has one
function a stage, `demo` the whole job, `console` shows events, `drive` drains a stream
into the console and a job's log.
"""
