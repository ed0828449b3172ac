-- A small shop with life in it: each call of shop.tick() lets orders come in,
-- be paid, be shipped and be forgotten. Used by `make demo` and docker-compose.yml.
create database shop;
use shop;

create table orders (
  id bigint unsigned not null auto_increment primary key,
  status enum('new', 'paid', 'shipped') not null default 'new',
  amount decimal(10, 2) not null,
  key by_status (status)
);

-- Running totals, for counters: these only grow.
create table totals (
  name varchar(32) not null primary key,
  value bigint unsigned not null
);
insert into totals values ('placed', 0), ('paid', 0), ('shipped', 0);

delimiter //
create procedure tick()
begin
  declare n bigint;
  insert into orders (amount)
    select round(5 + 95 * rand(), 2)
    from (select 1 union all select 2 union all select 3 union all select 4 union all select 5) five
    where rand() < 0.6;
  set n = row_count();
  update totals set value = value + n where name = 'placed';
  delete from orders where status = 'shipped' and rand() < 0.2;
  update orders set status = 'shipped' where status = 'paid' and rand() < 0.2;
  set n = row_count();
  update totals set value = value + n where name = 'shipped';
  update orders set status = 'paid' where status = 'new' and rand() < 0.2;
  set n = row_count();
  update totals set value = value + n where name = 'paid';
end//

-- Business hours: until its connection ends, and under its caller's name in the list of sessions.
create procedure live() sql security invoker
begin
  while true do
    call tick();
    do sleep(0.25);
  end while;
end//
delimiter ;

call tick();
