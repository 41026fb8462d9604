# Does something real with what of Tcl is compiled.
set text [string repeat "from source down to the system level " 1000]
if {[zlib gunzip [zlib gzip $text]] ne $text} {error zlib}
if {[expr {2 ** 100}] ne "1267650600228229401496703205376"} {error bignum}
proc greet {channel args} {puts $channel "over a socket"; close $channel}
set server [socket -server greet -myaddr 127.0.0.1 0]
set client [socket -async 127.0.0.1 [lindex [fconfigure $server -sockname] 2]]
fileevent $client readable {set ::line [gets $::client]}
after 10000 {set ::line "nothing came"}
vwait ::line
if {$::line ne "over a socket"} {error $::line}
puts "Tcl [info patchlevel]: zlib, big numbers, sockets, [encoding system]"
