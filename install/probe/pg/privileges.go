package pg

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/airlock-project/airlock/install"
	"github.com/airlock-project/airlock/install/internal/postgres"
)

// queryPrivileges asks what the role may. has_schema_privilege fails for a
// schema that does not exist, so the catalog is asked instead.
const queryPrivileges = `SELECT has_database_privilege(current_database(), 'CREATE')::text,
 (SELECT has_schema_privilege(oid, 'CREATE')::text FROM pg_namespace WHERE nspname = $1),
 (SELECT (rolsuper OR rolcreaterole)::text FROM pg_roles WHERE rolname = current_user)`

// privileges checks what the role may do, and then does it.
func (l *look) privileges(ctx context.Context) error {
	if !l.Privileges && !l.DDL && !l.CreateRole {
		return nil
	}
	row, err := l.conn.Row(ctx, 3, queryPrivileges, l.Schema)
	if err != nil {
		return queryFailed("what the role may", err)
	}
	role, db := postgres.Identifier(l.facts.User), postgres.Identifier(l.facts.Database)
	inDatabase, inSchema, roles := row[0] == "true", l.Schema == "" || row[1] == "true", row[2] == "true"
	if l.Privileges || l.DDL {
		if !inDatabase {
			l.lacks("database "+l.facts.Database, "", fmt.Sprintf("GRANT CREATE ON DATABASE %s TO %s", db, role), "it has no privilege CREATE")
		}
		if !inSchema {
			reason, statement := "it has no privilege CREATE", fmt.Sprintf("GRANT ALL ON SCHEMA %s TO %s", postgres.Identifier(l.Schema), role)
			if row[1] == "" {
				reason, statement = "the schema does not exist", fmt.Sprintf("CREATE SCHEMA %s AUTHORIZATION %s", postgres.Identifier(l.Schema), role)
			}
			l.lacks("schema "+l.Schema, l.Schema, statement, reason)
		}
	}
	if l.CreateRole && !roles {
		l.noRole("rolcreaterole is false")
	}
	if l.DDL && inDatabase && inSchema {
		if err := l.roundTrip(ctx); err != nil {
			return err
		}
	}
	if l.CreateRole && roles {
		return l.roleTrip(ctx)
	}
	return nil
}

// lacks reports that the role cannot create in a place.
func (l *look) lacks(place, schema, statement, reason string) {
	l.add(codeCreate, install.SeverityFail, fmt.Sprintf("role %s cannot create in %s: %s", l.facts.User, place, reason), map[string]string{
		"role": postgres.Identifier(l.facts.User), "schema": schema, "privilege": "CREATE on " + place, "statement": statement, "reason": reason,
	})
}

func (l *look) noRole(reason string) {
	role := postgres.Identifier(l.facts.User)
	l.add(codeRole, install.SeverityFail, fmt.Sprintf("role %s cannot create roles: %s", l.facts.User, reason), map[string]string{
		"role": role, "statement": "ALTER ROLE " + role + " CREATEROLE", "reason": reason,
	})
}

// limits keep a round trip from waiting for a lock that somebody else holds.
const limits = `SELECT set_config('lock_timeout', '10s', true), set_config('statement_timeout', '30s', true)`

// roundTrip creates what a migration creates and drops it, in one transaction
// that is committed: that the server can write is proven, down to synchronous
// standbys, and nothing is there at any moment that others see.
func (l *look) roundTrip(ctx context.Context) error {
	name, err := scratchName()
	if err != nil {
		return err
	}
	schema, table := postgres.Identifier(name), postgres.Identifier(name, "probe")
	statements := []string{
		limits,
		"CREATE SCHEMA " + schema,
		"CREATE TABLE " + table + " (id integer PRIMARY KEY, words text)",
		"CREATE INDEX ON " + table + " (words)",
		"INSERT INTO " + table + " VALUES (1, 'airlock')",
	}
	if l.Schema != "" {
		own := postgres.Identifier(l.Schema, name)
		statements = append(statements, "CREATE TABLE "+own+" (id integer)", "DROP TABLE "+own)
	}
	statements = append(statements, "DROP SCHEMA "+schema+" CASCADE")
	return l.transact(ctx, statements)
}

// roleTrip creates and drops a role.
func (l *look) roleTrip(ctx context.Context) error {
	name, err := scratchName()
	if err != nil {
		return err
	}
	role := postgres.Identifier(name)
	return l.transact(ctx, []string{limits, "CREATE ROLE " + role + " NOLOGIN", "DROP ROLE " + role})
}

// transact runs statements in one transaction and reports which of them the
// server does not take, and why; an error is about the connection.
func (l *look) transact(ctx context.Context, statements []string) error {
	at := "COMMIT"
	err := l.conn.Transaction(ctx, func() error {
		for _, s := range statements {
			if err := l.conn.Exec(ctx, s); err != nil {
				at = s
				return err
			}
		}
		return nil
	})
	if q, ok := errors.AsType[*postgres.QueryError](err); ok {
		l.add(codeRefused, install.SeverityFail, fmt.Sprintf("%s: %s", at, q.Reason), map[string]string{"statement": at, "reason": q.Reason})
		return nil
	}
	return err
}

// scratchName is a name that nobody else uses.
func scratchName() (string, error) {
	var b [8]byte
	if _, err := rand.Read(b[:]); err != nil {
		return "", fmt.Errorf("make a name: %w", err)
	}
	return "airlock_probe_" + hex.EncodeToString(b[:]), nil
}

// maxRelations bounds what is read of a database's catalog.
const maxRelations = 10000

// queryRelations lists what users made, without what belongs to an extension.
const queryRelations = `SELECT n.nspname::text, c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
 AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY 1, 2 LIMIT 10000`

// dedicated reports relations that are not the product's.
func (l *look) dedicated(ctx context.Context) error {
	rows, err := l.conn.Rows(ctx, queryRelations)
	if err != nil {
		return queryFailed("which relations the database has", err)
	}
	list := foreign(rows, l.KnownTables)
	if len(list) == 0 {
		return nil
	}
	count := fmt.Sprint(len(list))
	if len(rows) >= maxRelations {
		count = "more than " + count
	}
	shown := strings.Join(list[:min(len(list), 10)], ", ")
	if len(list) > 10 {
		shown += ", …"
	}
	l.add(codeForeign, install.Severity(l.Foreign), fmt.Sprintf("it holds %s relations that are not the product's: %s", count, shown), map[string]string{"count": count, "relations": shown})
	return nil
}

// foreign returns the relations, given as schema and name, that are not in a
// schema with all known tables. Such a schema is that of an installation, whose
// other tables differ from version to version.
func foreign(relations [][]string, known []string) []string {
	have := make(map[string]int)
	for _, r := range relations {
		if len(r) == 2 && slices.Contains(known, r[1]) {
			have[r[0]]++
		}
	}
	var out []string
	for _, r := range relations {
		if len(r) == 2 && (len(known) == 0 || have[r[0]] < len(known)) {
			out = append(out, r[0]+"."+r[1])
		}
	}
	return out
}
