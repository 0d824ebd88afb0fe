"""The command line: parse, drain the events, return an exit code.

`app` holds the commands together and turns errors into exit codes, the `*_commands`
have one function a command, `options` what several of them ask for, `kept_settings` a
run's settings, `demo` the whole job; `console` shows events, `drive` drains a stream
into the console and a job's log.
"""
