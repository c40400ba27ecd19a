#!/usr/bin/perl
# A durable agent in another language, with nothing but what Perl brings along. It speaks docs/protocol.md: steps that are
# recorded and never done again, progress, an orderly end, a result. Its worker serves it as a `holdfast.Program`.
use strict;
use warnings;
use IO::Handle;
use JSON::PP;
use MIME::Base64 qw(encode_base64 decode_base64);
use Time::HiRes qw(sleep time);

my $PROTOCOL = 1;
my $json = JSON::PP->new->utf8->canonical->allow_nonref;

open(my $wire, '+<&=', $ENV{HOLDFAST_FD} // die "start me as a holdfast.Program\n") or die "no socket: $!\n";
binmode $wire;
$wire->autoflush(1);

# --- frames: four bytes of length, the highest first, and an object of JSON ----------------------------------------

sub send_frame {
    my $body = $json->encode($_[0]);
    print $wire pack('N', length $body), $body or exit 1;    # the worker has gone: nothing can be recorded any more
}

sub receive {
    read($wire, my $head, 4) == 4 or exit 1;
    my $length = unpack('N', $head);
    read($wire, my $body, $length) == $length or exit 1;
    return $json->decode($body);
}

# --- the attempt: what is recorded of it, and where it is -----------------------------------------------------------

send_frame({ type => 'hello', protocol => $PROTOCOL });
my $begin = receive();
$begin->{type} eq 'begin' && $begin->{protocol} == $PROTOCOL or die "the worker speaks another version\n";
my $run      = $begin->{claim}{run};
my $position = $run->{position};
my $input    = $json->decode(decode_base64($begin->{claim}{input}))->{input};
my @recorded = grep { $_->{status} =~ /^(ok|failed|abandoned)$/ } @{ $begin->{claim}{journal}{entries} };
my ($number, $asked, %seen) = (0);

sub commit {    # make something durable: returns when it is
    my %what = @_;
    my $id   = ++$number;
    send_frame({ type => 'commit', id => $id, position => $position, %what });
    while (1) {
        my $frame = receive();
        my $type  = $frame->{type};
        if    ($type eq 'asked')  { $asked = $frame->{outcome} }
        elsif ($type eq 'end')    { finish($frame->{ending}) }
        elsif ($type eq 'refusal' && $frame->{id} == $id) { die "refused: $frame->{message}\n" }
        elsif ($type eq 'answer'  && $frame->{id} == $id) { return $position = $frame->{committed}{position} }
    }
}

sub finish {    # the last word: nobody answers, and it is recorded when this process has gone
    my ($outcome) = @_;
    send_frame({ type => 'commit', id => ++$number, position => $position, outcome => $outcome })
        unless $outcome->[0] eq 'Lost';
    exit 0;
}

sub b64 { return encode_base64($json->encode($_[0]), '') }

sub step {    # do it once: its outcome is recorded, and from then on returned
    my ($name, $body) = @_;
    my $identity = [-1, '', $name, undef, $seen{$name}++ // 0];
    if (my $entry = shift @recorded) {
        my ($then, $now) = map { $json->encode($_) } $entry->{identity}, $identity;
        if ($then ne $now) {
            my %failure = (kind => 'mismatch', type => 'JournalMismatch', message => "recorded is $then, called was $now");
            my %mismatch = (message => $failure{message}, call => { identity => $identity }, entry => $entry->{position});
            finish(['Hold', { reason => 'mismatch', failure => \%failure, mismatch => \%mismatch }]);
        }
        die "step $name failed before\n" if $entry->{status} ne 'ok';
        return $json->decode(decode_base64($entry->{payload}));
    }
    finish($asked) if $asked;    # a drain or a pause: here nothing is in the middle
    my $began  = sprintf('%d', time * 1e6) + 0;
    my $result = $body->();
    my %entry  = (identity => $identity, kind => 'step', status => 'ok', payload => b64($result));
    commit(entries => [{ %entry, started_at_us => $began }]);
    return $result;
}

sub progress {
    my ($current, $total, $text) = @_;
    commit(progress => { current => $current, total => $total, description => $text }) unless @recorded;
}

# --- the agent ------------------------------------------------------------------------------------------------------

my $total = eval {
    my ($sum, $steps) = (0, $input->{steps});
    for my $n (1 .. $steps) {
        $sum += step('square', sub {
            open(my $seen, '>>', $input->{file}) or die "$input->{file}: $!\n";
            print $seen "$n\n";
            close $seen;
            sleep($input->{pause_s} // 0);
            return $n * $n;
        });
        progress($n, $steps, "square $n");
    }
    return $sum;
};
if (my $error = $@) {
    chomp $error;
    finish(['Failed', { failure => { kind => 'fatal', type => 'PerlError', message => $error } }]);
}
finish(['Succeeded', { result => b64($total) }]);
