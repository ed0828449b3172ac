#!/usr/bin/perl
# sick.pl - two targets that are not well. Prints "HUNG DEAD", two ports of 127.0.0.1:
# on HUNG connections are accepted and held, and no byte is ever sent; DEAD is
# bound but not listened on, so a connection is refused and nobody else can take
# it. Ends when its standard input closes. Needs perl-base only, which every Debian has.
use strict;
use warnings;
use Socket;

sub bound {
    socket(my $s, PF_INET, SOCK_STREAM, 0) or die "sick.pl: socket: $!\n";
    bind($s, pack_sockaddr_in(0, INADDR_LOOPBACK)) or die "sick.pl: bind: $!\n";
    return ($s, (unpack_sockaddr_in(getsockname($s)))[0]);
}

my ($hung, $hung_port) = bound();
my ($dead, $dead_port) = bound();
listen($hung, 64) or die "sick.pl: listen: $!\n";
$| = 1;
print "$hung_port $dead_port\n";

my @held;
while (1) {
    my $ready = '';
    vec($ready, fileno(STDIN), 1) = 1;
    vec($ready, fileno($hung), 1) = 1;
    next if select($ready, undef, undef, undef) < 0;    # a signal
    if (vec($ready, fileno(STDIN), 1)) {
        exit 0 unless sysread(STDIN, my $byte, 1);
    }
    if (vec($ready, fileno($hung), 1) && accept(my $client, $hung)) {
        push @held, $client;
        shift @held if @held > 64;
    }
}
