package lsm

// AppendEntry writes an entry as files and the log have it.
var AppendEntry = appendEntry
