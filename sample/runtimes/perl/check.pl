# Does something real with Perl's compiled modules.
use strict;
use warnings;
use Compress::Zlib ();
use Data::Dumper ();
use Digest::SHA ();
use Encode ();
use IO::Socket::INET ();
use List::Util ();
use POSIX ();
use Socket ();
use Storable ();
use Time::HiRes ();

my $text = "from source down to the system level " x 1000;
Compress::Zlib::memGunzip(Compress::Zlib::memGzip($text)) eq $text or die "Compress::Zlib";
Digest::SHA::sha256_hex("abc") =~ /^ba7816bf/ or die "Digest::SHA";
List::Util::sum(1 .. 10) == 55 or die "List::Util";
length(Encode::encode("UTF-8", "\x{263a}")) == 3 or die "Encode";
POSIX::floor(-0.5) == -1 or die "POSIX";
Storable::thaw(Storable::freeze({ a => [1, 2] }))->{a}[1] == 2 or die "Storable";
my $server = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1") or die "listen: $!";
my $client = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $server->sockport) or die "connect: $!";
print {$client} "over a socket\n";
close $client;
my $line = readline($server->accept);
$line eq "over a socket\n" or die "Socket";
print "Perl $^V: Compress::Zlib ", Compress::Zlib::zlib_version(), ", Digest::SHA, Encode, List::Util, POSIX, Socket, Storable\n";
