"""Route 53 on loopback: moto, with the rules for changes that the real one has, and PowerDNS as the name server of its zone.

moto deletes whatever was created at any time, and by a set identifier from the whole zone, so that nothing conditional could
be tried on it. Here CREATE, DELETE and UPSERT are what AWS documents for ChangeResourceRecordSets. It also does on demand what
only happens to others: POST /drover/knobs with how often, of the API requests that follow.

    throttle      answered with Throttling
    deny          answered with AccessDenied
    reject        InvalidChangeBatch to a change that is right
    fail_after    a change happens, and is answered with 500
    hang          no answer
    hang_change   no answer to a change, which does not happen
    pending       a change is PENDING when it is asked for
    old_errors    InvalidChangeBatch is told in the form that it had until 2024
    down          answered with 503, as by a control plane that is down. The name server and the checkers go on
    checks_full   a health check more is refused with TooManyHealthChecks
    versions      a health check has another version than the caller read

An alias, whose answers are its target's in the real one, is answered by an address that stands for the target: 203.0.113.N or
2001:db8:a11a::N, where N is 1 and the CRC-32 of the target's name modulo 254.

moto knows health checks and never looks. Here checkers do what AWS documents ("How Amazon Route 53 determines whether a health check is
healthy"): each endpoint is asked every --checker-interval seconds whatever its RequestInterval, a check changes its status after as many
answers as its FailureThreshold says, a new one counts as healthy until then, `Inverted` turns that around, `Disabled` is healthy before it,
and a calculated one counts its children. Records follow as in "How Amazon Route 53 chooses records when health checking is configured".
GET /drover/checks is what they found. A page of --pages at a time is listed.

GET /drover/log is the requests so far: when, which, and how many changes. Prints "ready PORT HOSTED_ZONE" when it listens.
"""

import argparse
import copy
import http.client
import io
import json
import os
import re
import sqlite3
import ssl
import sys
import threading
import time
import zlib

from moto.moto_api._internal import mock_random
from moto.route53 import models, responses
from moto.route53.exceptions import Route53ClientError
from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

ACCOUNT = "123456789012"
CHANGES_MAX = 1000
VALUE_CHARS_MAX = 32_000
WEIGHT_MAX = 255
HANG_SECONDS = 60
SCHEMA = "/usr/share/pdns-backend-sqlite3/schema/schema.sqlite3.sql"

lock = threading.RLock()
name_server = None
gate = None


class InvalidChangeBatch(Route53ClientError):
    def __init__(self, messages):
        super().__init__("InvalidChangeBatch", "[" + ", ".join(messages) + "]")


def spelled(name):
    return name.rstrip(".").lower() + "."


def key_of(record_set):
    return spelled(record_set.name), record_set.type, record_set.set_identifier


def told(key):
    name, rtype, identifier = key
    more = f", set identifier='{identifier}'" if identifier else ""
    return f"resource record set [name='{name}', type='{rtype}'{more}]"


def content(record_set):
    parts = ("ttl", "weight", "records", "health_check_id", "alias_target", "failover", "region", "multi_value_answer")
    return [str(getattr(record_set, part)) for part in parts]


def objection(sets, key, new):
    """Why `new` can't stand beside the others."""
    name, rtype, identifier = key
    if identifier and new.weight is not None and not 0 <= int(new.weight) <= WEIGHT_MAX:
        return f"Invalid Resource Record: weight {new.weight} is not between 0 and {WEIGHT_MAX}"
    for other_name, other_type, other_identifier in sets:
        if other_name != name:
            continue
        if other_type == rtype and bool(other_identifier) != bool(identifier):
            return f"RRSet with DNS name {name}, type {rtype}, SetIdentifier {identifier} cannot be created as a non-weighted set exists with the same name and type, or the other way round"
        if other_type != rtype and "CNAME" in (other_type, rtype):
            return f"RRSet of type {rtype} with DNS name {name} is not permitted because a conflicting RRSet of type {other_type} with the same DNS name already exists"
    return None


def change(self, zoneid, change_list):
    with lock:
        zone = self.get_hosted_zone(zoneid)
        sets = {key_of(one): one for one in zone.rrsets}
        wrong, chars, count = [], 0, 0
        for value in change_list:
            given = copy.deepcopy(value["ResourceRecordSet"])
            records = [one["Value"] for one in given.get("ResourceRecords") or []]
            twice = 2 if value["Action"] == "UPSERT" else 1
            count += twice * max(len(records), 1)
            chars += twice * sum(map(len, records))
            given["ResourceRecords"] = records
            given["Name"] = spelled(given["Name"])
            new = models.RecordSet(given)
            key = key_of(new)
            there = sets.get(key)
            if not key[0].endswith(spelled(zone.name)):
                wrong.append(f"RRSet with DNS name {key[0]} is not permitted in zone {zone.name}")
            elif value["Action"] == "DELETE":
                if there is None:
                    wrong.append(f"Tried to delete {told(key)} but it was not found")
                elif content(there) != content(new):
                    wrong.append(f"Tried to delete {told(key)} but the values provided do not match the current values")
                else:
                    del sets[key]
            elif value["Action"] == "CREATE" and there is not None:
                wrong.append(f"Tried to create {told(key)} but it already exists")
            elif why := objection([k for k in sets if k != key], key, new):
                wrong.append(why)
            else:
                sets[key] = new
        if count > CHANGES_MAX:
            wrong = [f"Number of records limit of {CHANGES_MAX} exceeded."]
        if chars > VALUE_CHARS_MAX:
            wrong = [f"Number of characters limit of {VALUE_CHARS_MAX} exceeded."]
        if wrong:
            raise InvalidChangeBatch(wrong)
        zone.rrsets = list(sets.values())
        if name_server:
            name_server.follow(zone, created(change_list))


def created(change_list):
    """Which generation of which weighted set: their identifiers are REGION/GENERATION/CHECK."""
    found = {}
    for value in change_list:
        given = value["ResourceRecordSet"]
        identifier = (given.get("SetIdentifier") or "").split("/")
        if value["Action"] == "CREATE" and len(identifier) == 3:
            found[f"{spelled(given['Name']).rstrip('.')} {given['Type']} generation {identifier[1]}"] = None
    return list(found)


def order(record_set):
    labels = spelled(record_set.name).rstrip(".").split(".")
    return list(reversed(labels)), record_set.type, record_set.set_identifier or ""


def listed(self):
    """ListResourceRecordSets; moto's own knows no set identifier to go on from."""
    count = min(int(self._get_param("MaxItems") or 300), 300)
    start = (self._get_param("StartRecordName"), self._get_param("StartRecordType"), self._get_param("StartRecordIdentifier"))
    with lock:
        zone = self.backend.get_hosted_zone(self._get_param("HostedZoneId"))
        found = sorted(zone.rrsets, key=order)
    if start[0]:
        asked = models.RecordSet({"Name": start[0], "Type": start[1] or "", "SetIdentifier": start[2]})
        found = [one for one in found if order(one) >= order(asked)]
    page, rest = found[:count], found[count:]
    result = {"ResourceRecordSets": page, "IsTruncated": bool(rest), "MaxItems": count}
    if rest:
        result |= {"NextRecordName": rest[0].name, "NextRecordType": rest[0].type}
        if rest[0].set_identifier:
            result["NextRecordIdentifier"] = rest[0].set_identifier
    return responses.ActionResult(result)


def answered(one):
    """What a record set says, or what stands for its alias's target."""
    if not one.alias_target:
        return one.records
    last = 1 + zlib.crc32(spelled(one.alias_target["DNSName"]).rstrip(".").encode()) % 254
    return [f"203.0.113.{last}" if one.type == "A" else f"2001:db8:a11a::{last:x}"]


class NameServer:
    """A zone in PowerDNS's database, which answers weighted record sets by Lua."""

    def __init__(self, path, zone):
        self.path, self.zone = path, zone
        with self.opened() as database:
            database.execute("PRAGMA journal_mode=WAL")
            database.executescript(open(SCHEMA).read())
            # All that ever happened, so that it can be counted.
            database.execute("CREATE TABLE applied (number INTEGER PRIMARY KEY, what TEXT)")
            database.execute("INSERT INTO domains (id, name, type) VALUES (1, ?, 'NATIVE')", [zone])

    def opened(self):
        return sqlite3.connect(self.path, timeout=10)

    def follow(self, zone, happened):
        """One transaction: a name server has all of a change or nothing of it."""
        weighted, rows = {}, []
        own = {(spelled(one.name), one.type): one.ttl for one in zone.rrsets if one.ttl}
        for one in zone.rrsets:
            # An alias beside other records of a name is kept as long as they are.
            name, ttl = spelled(one.name).rstrip("."), one.ttl or own.get((spelled(one.name), one.type)) or 60
            if one.weight is None:
                rows += [(name, one.type, value.rstrip(".") if one.type in ("NS", "CNAME") else value, ttl) for value in answered(one)]
            else:
                weighted.setdefault((name, one.type, ttl), []).append((int(one.weight), answered(one)[0], checkers.is_healthy(one.health_check_id)))
        for (name, rtype, ttl), members in weighted.items():
            # What has no weight is a reserve, and where nobody is healthy all are taken for it.
            shares = (
                [(weight, value) for weight, value, healthy in members if weight > 0 and healthy]
                or [(1, value) for _, value, healthy in members if healthy]
                or [(weight, value) for weight, value, _ in members if weight > 0]
                or [(1, value) for _, value, _ in members]
            )
            choice = ",".join(f"{{{weight},'{value}'}}" for weight, value in shares)
            rows.append((name, "LUA", f"{rtype} \"pickwrandom({{{choice}}})\"", ttl))
        with self.opened() as database:
            database.executemany("INSERT INTO applied (what) VALUES (?)", [(what,) for what in happened])
            database.execute("DELETE FROM records")
            database.executemany("INSERT INTO records (domain_id, name, type, content, ttl) VALUES (1, ?, ?, ?, ?)", rows)


class Checkers:
    """Route 53's health checkers, all as one."""

    def __init__(self):
        self.interval, self.backend, self.zone, self.seen = 0.1, None, None, {}

    def is_healthy(self, check_id, seen_by=()):
        """As records and other checks take it. Of one that is gone nobody can say; here it stays as it was."""
        if not check_id:
            return True
        check = self.backend.health_checks.get(check_id)
        state = self.seen.setdefault(check_id, {"status": True, "streak": 0, "report": None})
        if check is None:
            return state.get("last", True)
        if check.disabled:
            raw = True
        elif check.type_ == "CALCULATED":
            children = [child for child in check.children or [] if child not in seen_by]
            healthy = sum(self.is_healthy(child, (*seen_by, check_id)) for child in children)
            raw = healthy >= int(check.health_threshold or 0)
        else:
            raw = state["status"]
        state["last"] = raw != bool(check.inverted)
        return state["last"]

    def ask(self, check):
        """Whether an endpoint is healthy before inversion, and what a checker says of it."""
        secure = check.type_.startswith("HTTPS")
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        options = {"context": ssl._create_unverified_context()} if secure else {}
        connection = kind(check.ip_address or check.fqdn, int(check.port), timeout=4, **options)
        try:
            connection.request("GET", check.resource_path or "/", headers={"User-Agent": "Amazon-Route53-Health-Check-Service (drover's stand-in)"})
            answer = connection.getresponse()
            body = answer.read(5120)
        except (OSError, http.client.HTTPException) as error:
            return False, f"Failure: {error}"
        finally:
            connection.close()
        if not 200 <= answer.status < 400:
            return False, f"Failure: HTTP Status Code {answer.status}, {answer.reason}."
        if check.type_.endswith("STR_MATCH") and check.search_string.encode() not in body:
            return False, "Failure: The string was not found in the body."
        return True, f"Success: HTTP Status Code {answer.status}, {answer.reason}"

    def look(self):
        """One round."""
        with lock:
            endpoints = [c for c in self.backend.health_checks.values() if c.type_ != "CALCULATED" and not c.disabled]
        for check in endpoints:
            healthy, report = self.ask(check)
            with lock:
                state = self.seen.setdefault(check.id, {"status": True, "streak": 0, "report": None})
                state["streak"] = state["streak"] + 1 if healthy != state["status"] else 0
                if state["streak"] >= int(check.failure_threshold or 3):
                    state["status"], state["streak"] = healthy, 0
                state["report"] = report
        with lock:
            now = {one.health_check_id: self.is_healthy(one.health_check_id) for one in self.zone.rrsets if one.health_check_id}
            if now != self.seen.get("records") and name_server:
                self.seen["records"] = now
                name_server.follow(self.zone, [])

    def run(self):
        while True:
            self.look()
            time.sleep(self.interval)

    def found(self):
        with lock:
            checks = self.backend.health_checks.values()
            return [{"id": c.id, "reference": c.caller_reference, "config": {k: v for k, v in c.health_check_config.items() if v is not None}, "healthy": self.is_healthy(c.id), "tags": self.backend.list_tags_for_resource(c.id)} for c in checks]


checkers = Checkers()
page_of_checks = 100
deleted_references = set()


def create_check(self, caller_reference, health_check_args):
    """A reference is good for one check with just these settings, and after a deletion for none."""
    with lock:
        if gate.take("checks_full"):
            raise Route53ClientError("TooManyHealthChecks", "Limits Exceeded: MAX_HEALTH_CHECKS")
        args = {k: v for k, v in health_check_args.items() if v not in (None, [], False)}
        for check in self.health_checks.values():
            if check.caller_reference == caller_reference:
                if check.made_with == args:
                    return check
                raise Route53ClientError("HealthCheckAlreadyExists", "The health check already exists.")
        if caller_reference in deleted_references:
            raise Route53ClientError("HealthCheckAlreadyExists", "The health check already exists.")
        check = made_check(self, caller_reference, health_check_args)
        check.made_with = args
        return check


def update_check(self, health_check_id, health_check_args):
    with lock:
        check = self.get_health_check(health_check_id)
        changed = updated_check(self, health_check_id, {k: v for k, v in health_check_args.items() if v != []})
        check.health_check_version += 1
        return changed


def update_check_answered(self):
    version = self._get_param("HealthCheckVersion")
    check = self.backend.get_health_check(self._get_param("HealthCheckId"))
    if version is not None and (int(version) != check.health_check_version or gate.take("versions")):
        raise Route53ClientError("HealthCheckVersionMismatch", "The value of HealthCheckVersion in the request doesn't match.")
    return update_answered(self)


def delete_check(self, health_check_id):
    with lock:
        deleted_references.add(self.get_health_check(health_check_id).caller_reference)
        deleted_check(self, health_check_id)


def listed_checks(self):
    with lock:
        found = sorted(self.backend.list_health_checks(), key=lambda check: check.id)
    marker = self._get_param("Marker")
    rest = [check for check in found if not marker or check.id >= marker]
    page, rest = rest[:page_of_checks], rest[page_of_checks:]
    result = {"HealthChecks": page, "Marker": marker or "", "IsTruncated": bool(rest), "MaxItems": page_of_checks}
    if rest:
        result["NextMarker"] = rest[0].id
    return responses.ActionResult(result)


def status_of_check(self):
    """What the checkers say; of a new check nothing."""
    check = self.backend.get_health_check(self._get_param("HealthCheckId"))
    if check.type_ == "CALCULATED":
        raise Route53ClientError("InvalidInput", "The status of a calculated health check can't be asked for.")
    report = checkers.seen.get(check.id, {}).get("report")
    one = lambda number: {"Region": "us-east-1", "IPAddress": f"192.0.2.{number}", "StatusReport": {"Status": report, "CheckedTime": responses.utcnow()}}
    found = [one(number) for number in (53, 54, 55)] if report else []
    return responses.ActionResult({"HealthCheckObservations": found})


made_check, updated_check, deleted_check = models.Route53Backend.create_health_check, models.Route53Backend.update_health_check, models.Route53Backend.delete_health_check
update_answered = responses.Route53.update_health_check


class Gate:
    """Stands before moto: writes down what comes, and does what moto never would."""

    def __init__(self, app):
        self.app, self.knobs, self.log, self.taken = app, {}, [], 0

    def take(self, knob):
        with lock:
            left = self.knobs.get(knob, 0)
            if left > 0:
                self.knobs[knob] = left - 1
            return left > 0

    def __call__(self, environ, start_response):
        request = Request(environ)
        if request.path == "/drover/knobs":
            self.knobs = json.loads(request.get_data())
            return Response("")(environ, start_response)
        if request.path == "/drover/checks":
            return Response(json.dumps(checkers.found()))(environ, start_response)
        if request.path == "/drover/log":
            return Response(json.dumps(self.log))(environ, start_response)
        answer = self.answer(request, environ, time.monotonic())
        return answer(environ, start_response)

    def answer(self, request, environ, at):
        changes = len(re.findall(rb"<Change>", request.get_data()))
        with lock:
            self.log.append({"at": at, "method": request.method, "path": request.path, "changes": changes})
        if self.take("down"):
            return error(503, "ServiceUnavailable", "The service is unavailable.")
        if self.take("hang") or (changes and self.take("hang_change")):
            time.sleep(HANG_SECONDS)
        if self.take("throttle"):
            return error(400, "Throttling", "Rate exceeded")
        if changes and self.take("reject"):
            return error(400, "InvalidChangeBatch", "[A reason that drover can do nothing about]")
        if self.take("deny"):
            return error(403, "AccessDenied", "User is not authorized to access this resource")
        # The body was read above, and moto reads it from here.
        environ["wsgi.input"] = io.BytesIO(request.get_data())
        answered = Response.from_app(self.app, environ, buffered=True)
        if changes and answered.status_code == 200:
            with lock:
                self.taken += 1
                # moto calls every change the same.
                named = re.sub(rb"<Id>/change/[^<]*", b"<Id>/change/C%012d" % self.taken, answered.get_data())
            answered.set_data(named)
        if changes and self.take("fail_after"):
            return error(500, "InternalFailure", "We encountered an internal error.")
        if "/change/" in request.path and self.take("pending"):
            answered.set_data(answered.get_data().replace(b"INSYNC", b"PENDING"))
        if b"<Code>InvalidChangeBatch" in answered.get_data() and self.take("old_errors"):
            text = re.search(rb"<Message>(.*?)</Message>", answered.get_data(), re.S).group(1)
            answered.set_data(b"<InvalidChangeBatch xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Messages><Message>" + text + b"</Message></Messages><RequestId>x</RequestId></InvalidChangeBatch>")
        return answered


def error(status, code, message):
    body = f"<ErrorResponse xmlns=\"https://route53.amazonaws.com/doc/2013-04-01/\"><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error><RequestId>x</RequestId></ErrorResponse>"
    return Response(body, status=status, content_type="text/xml")


class Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_):
        pass


def until_parent_ends():
    sys.stdin.read()
    # Not `exit`, which would wait for whoever hangs.
    os._exit(0)


def main():
    global name_server, gate, page_of_checks
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zone", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--hosted-zone", help="id of the zone; drawn where left out")
    parser.add_argument("--powerdns", help="database to make for PowerDNS")
    parser.add_argument("--ready-file", help="made when it listens")
    parser.add_argument("--while-stdin", action="store_true", help="end when standard input does")
    parser.add_argument("--checker-interval", type=float, default=0.1, help="seconds between two rounds of the health checkers")
    parser.add_argument("--pages", type=int, default=100, help="health checks of a page")
    options = parser.parse_args()
    models.Route53Backend.change_resource_record_sets = change
    responses.Route53.list_resource_record_sets = listed
    models.Route53Backend.create_health_check = create_check
    models.Route53Backend.update_health_check = update_check
    models.Route53Backend.delete_health_check = delete_check
    responses.Route53.list_health_checks = listed_checks
    responses.Route53.get_health_check_status = status_of_check
    responses.Route53.update_health_check = update_check_answered
    mock_random.seed(time.time_ns())
    backend = models.route53_backends[ACCOUNT]["aws"]
    zone = backend.create_hosted_zone(options.zone, private_zone=False)
    if options.hosted_zone:
        backend.zones[options.hosted_zone] = backend.zones.pop(zone.resource_id)
        zone.resource_id = options.hosted_zone
    for one in zone.rrsets:
        one.records = [record["Value"] if isinstance(record, dict) else record for record in one.records]
    checkers.interval, checkers.backend, checkers.zone, page_of_checks = options.checker_interval, backend, zone, options.pages
    if options.powerdns:
        name_server = NameServer(options.powerdns, options.zone)
        name_server.follow(zone, [])
    if options.while_stdin:
        threading.Thread(target=until_parent_ends, daemon=True).start()
    gate = Gate(DomainDispatcherApplication(create_backend_app))
    threading.Thread(target=checkers.run, daemon=True).start()
    server = make_server("127.0.0.1", options.port, gate, threaded=True, request_handler=Quiet)
    if options.ready_file:
        open(options.ready_file, "w").close()
    print("ready", server.server_port, zone.resource_id, flush=True)
    server.serve_forever()


main()
